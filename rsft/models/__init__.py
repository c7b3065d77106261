"""Frozen backbone + PEFT + head as one module, built from a recipe or from a bundle, and what it demands of a chip."""
