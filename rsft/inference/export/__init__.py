"""Write a bundle as files for other programs, and compare the export with PyTorch before it is kept."""
