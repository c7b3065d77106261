"""Search over the keys of a recipe: many runs, one table, the paper's heat maps."""
