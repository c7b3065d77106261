"""Short epochs."""
