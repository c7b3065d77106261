"""The code of the paper's authors, trained on the chips and batches of rsft."""
