"""One function per data set, which builds a chip store.

No module of this package imports more than typer at first.

`rsft.data.datasets` reads the data sets.
"""

# the order of the commands in `rsft prepare --help`
__all__ = ["dota", "fusrs", "image_folder"]
