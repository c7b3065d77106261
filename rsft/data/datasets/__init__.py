"""Readers of published data sets in their original layout, one module per data set."""
