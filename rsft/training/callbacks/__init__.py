"""Objects that a training run calls at fixed moments: recorder, trackers, checkpoints, early stopping."""
