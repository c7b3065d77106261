"""Sweeps over recipe keys: many runs, one table of results, and heat maps."""
