"""Description of a chip store as Croissant, the format in which catalogs and data loaders read data sets."""
