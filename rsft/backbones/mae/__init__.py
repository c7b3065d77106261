"""Masked autoencoders that remote sensing groups published: SatMAE and SARMAE."""
