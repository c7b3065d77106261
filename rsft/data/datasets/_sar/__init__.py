"""Files of the SAR data sets and what they contain; only `images` needs torch."""
