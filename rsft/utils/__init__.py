"""Code that knows nothing of chips or networks: files, archives, processes."""
