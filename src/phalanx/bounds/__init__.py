"""Deterministic bounds: what a network can answer anywhere in a set of inputs."""
