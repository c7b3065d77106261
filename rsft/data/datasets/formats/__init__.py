"""The files of the data sets. No module of this package needs torch."""
