"""How operators are written into a program, one file each; ``curve`` is for those without."""
