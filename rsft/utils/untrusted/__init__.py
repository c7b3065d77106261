"""Reading of files from untrusted sources, with limits."""
