"""Find bright objects in SAR scenes."""
