"""Training chips from labeled scenes."""
