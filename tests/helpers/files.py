"""Write files of tests."""

from __future__ import annotations

from pathlib import Path


def written(path: Path, text: str) -> Path:
    """Write a text file and return its path."""
    path.write_text(text)
    return path
