"""Load an engine for a bundle, or select the fastest one that agrees with PyTorch."""
