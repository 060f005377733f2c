"""The papers' tables as commands: what is trained, what is certified, what was published."""
