"""Randomized smoothing: votes, counts, confidence bounds, radii, stopping rules, engine."""
