"""Recipes, schedules and the trainer."""
