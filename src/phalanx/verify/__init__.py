"""Complete verification: attack, bounds and search; every answer is proven or replayed."""
