"""Everything between a published data set and a batch of tensors."""
