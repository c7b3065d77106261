"""Training chips from labeled objects in scenes."""
