"""Bounding methods, one file each."""
