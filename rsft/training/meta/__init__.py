"""The bi-level loop: inner and outer steps, hypergradient, meta split."""
