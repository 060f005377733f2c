"""Networks on boxes as linear programs: relaxations, exact encodings, cuts, and safe answers.

`encode` writes a prepared graph as one sparse `Program`; `Solver` minimises costs over it with
HiGHS; `least_by_multipliers` turns whatever multipliers it found into a lower bound that is
computed here. `least_exactly` asks for the minimum over an encoding with whole numbers.
"""
