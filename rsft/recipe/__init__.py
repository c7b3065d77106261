"""The recipe: one experiment in one YAML file. Nothing here imports torch."""
