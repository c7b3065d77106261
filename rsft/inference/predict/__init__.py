"""Classify chips and scenes with a bundle, and write tables that a GIS or a spreadsheet opens."""
