"""Positions, boxes and labels of objects: one table for every file format."""

CLASS_NAME_FILES = ("data.yaml", "classes.txt", "obj.names")
"""Files beside or above YOLO labels that name their classes."""
CLASS_NAME_LEVELS = 3
"""Number of folders in which they are looked for: labels/train, labels, and the folder
of the data set."""
