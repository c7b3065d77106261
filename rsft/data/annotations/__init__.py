"""Positions, boxes and labels of objects: one table for every file format."""
