"""Data sets, chip stores, image reading and batches: everything from published files to tensors."""
