"""Curves, tables and the HTML report; reads runs, never torch."""
