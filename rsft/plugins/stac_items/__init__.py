"""STAC items as scenes."""
