"""Chips of a store as batches of tensors: data module, packed cache, samplers."""
