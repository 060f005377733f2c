"""Proofs of answers as files, and the code that checks them without the code that found them.

What a search leaves behind are hints: where to cut, which slopes, which multipliers. The checker
derives every box, every line and every bound anew, in numpy's float64 with all roundings charged
against the claim, on the network as it was read. It shares with the searcher the readers of ONNX
and VNN-LIB and the graph between them, and no arithmetic.
"""
