"""Apply a bundle to new chips and scenes."""
