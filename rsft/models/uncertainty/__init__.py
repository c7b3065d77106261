"""How far an answer can be trusted: calibrated probabilities, sets of classes, and chips unlike the training chips."""
