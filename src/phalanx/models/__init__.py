"""Models: a network with its input bounds and normalisation inside."""
