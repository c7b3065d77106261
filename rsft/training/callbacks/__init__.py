"""Objects that a training run calls at fixed moments: recorder, checkpoints, early stopping."""
