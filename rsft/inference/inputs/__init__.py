"""Where chips come from: files, scenes, positions."""
