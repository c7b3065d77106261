"""OpenSARShip: ships in images of Sentinel-1."""
