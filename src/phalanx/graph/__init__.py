"""One small intermediate representation of networks, its importers, its simplifier, its runner."""
