"""Formats of annotations that labeling tools and data sets have of their own."""
