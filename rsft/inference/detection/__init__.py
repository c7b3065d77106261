"""Detect bright objects in SAR scenes."""
