"""The literature's networks, one file a family."""
