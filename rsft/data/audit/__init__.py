"""Checks of lists and chips before training: duplicates, leaks between splits, contradictory labels."""
