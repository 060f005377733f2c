"""Device, keys, progress, batch tuning, executors."""
