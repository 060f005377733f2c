"""Specifications: what an attacker may do, and what must hold."""
