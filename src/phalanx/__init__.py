"""Phalanx trains, certifies, verifies and attacks neural networks and ensembles of them."""

__version__ = "0.1.0"
