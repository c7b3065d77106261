"""Read the chips to classify, from image files or from scenes."""
