"""Builds: from sources to a chip store."""
