"""The shipped grids, one YAML file each."""
