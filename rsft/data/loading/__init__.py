"""Batches of tensors from a chip store: data module, packed cache, samplers."""
