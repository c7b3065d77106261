"""The reports: self-contained pages, made from the files of runs alone."""
