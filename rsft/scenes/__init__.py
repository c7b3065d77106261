"""Read scenes window by window, georeference them, and locate chips in them."""
