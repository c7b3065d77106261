"""Callbacks of a training run: recorder, trackers, checkpoints, early stopping."""
