"""Branch and bound: on boxes of few inputs, and on the signs of ReLUs."""
