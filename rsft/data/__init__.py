"""Data sets, chip stores, image reading and batches: from files to tensors."""
