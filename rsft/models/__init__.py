"""The classifier, its bundle and contract, averages, and uncertainty."""
