"""A network and a case in exact rational numbers, asked of an SMT solver."""
