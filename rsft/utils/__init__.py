"""Code that knows nothing of chips or networks: files, downloads, archives, processes."""
