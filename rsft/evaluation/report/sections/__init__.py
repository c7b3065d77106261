"""Sections of the report that need computation of their own."""
