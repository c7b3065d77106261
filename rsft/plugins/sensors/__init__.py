"""Products of sensors other than Sentinel-1."""
