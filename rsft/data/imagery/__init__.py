"""What a pixel means, from file to network input."""
