"""Why an ensemble helps or does not: correlation, variance, predicted radii."""
