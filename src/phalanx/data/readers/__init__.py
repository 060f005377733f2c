"""One file a format; each registers a reader under its name."""
