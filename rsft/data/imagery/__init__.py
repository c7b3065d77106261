"""Pixels of a chip, from the image file to the input of the network."""
