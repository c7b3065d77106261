"""Write a bundle as files for other programs, and check that its outputs match PyTorch."""
