"""Bounds once more in double precision, every rounding counted, by code that did not find them."""
