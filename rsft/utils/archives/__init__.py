"""Extraction of archives from untrusted sources."""
