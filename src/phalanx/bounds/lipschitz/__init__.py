"""Lipschitz constants, and the radii that margins have by them."""
