"""The tensors with which a run starts: head, cached outputs, or those of a bundle."""
