"""Write a bundle for other programs, and check that its outputs match PyTorch."""
