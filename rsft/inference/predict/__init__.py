"""A bundle on new chips: which files, which class, written where a GIS or a spreadsheet opens it."""
