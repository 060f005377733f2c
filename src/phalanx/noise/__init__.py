"""Keyed, counter-based noise."""
