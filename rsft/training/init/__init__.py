"""Initial weights of the head, and caches of the outputs of frozen blocks."""
