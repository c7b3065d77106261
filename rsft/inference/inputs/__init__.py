"""Read the chips that are to be classified, from image files or from scenes."""
