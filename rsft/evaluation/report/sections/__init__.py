"""Sections of the report that need more than one chart or table."""
