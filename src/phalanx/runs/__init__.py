"""Runs: records, store, provenance, query, export and recheck; never torch."""
