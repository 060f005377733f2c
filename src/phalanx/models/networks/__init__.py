"""The literature's networks: one file a name (files with a leading underscore are shared)."""
