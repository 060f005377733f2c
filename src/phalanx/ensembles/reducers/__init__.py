"""Reducers, one file a name: member logits ``(M, B, C)`` to scores ``(B, C)``."""
