"""Grids: networks by trainings by ways of certifying them."""
