"""Ensembles: members are a tensor axis, reducers decide."""
