"""Extraction of downloaded archives, which are not trusted."""
