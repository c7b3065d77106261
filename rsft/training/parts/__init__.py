"""Parts of a run: each changes a step, an epoch or the end of the training."""
