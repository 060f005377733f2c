"""Data sets: readers for the field's formats, cards, and downloads."""
