"""One file a training loss."""
