"""Sweeps over a data set; the only writer of certify rows."""
