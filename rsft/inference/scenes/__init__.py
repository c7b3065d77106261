"""Rasters with a location: windows, georeference, positions."""
