"""The cache decodes an image once, reads it again if its file changes, and keeps one image at a time."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

import numpy as np
import pytest

from rsft.data.imagery.scene_uri import LastImageCache, file_state
from rsft.errors import DataError
from rsft.types import Pixels


def read(path: Path) -> Pixels:
    """Return the bytes of a file as an image of one row."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError("the file cannot be read", path, "bring it back") from error
    return np.frombuffer(data, np.uint8).reshape(1, -1, 1)


def test_image_is_read_once_and_again_after_a_change(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"ab")
    cache = LastImageCache(read)
    first = cache(path)
    assert cache(path) is first
    path.write_bytes(b"cd")
    os.utime(path, ns=(0, 1))
    assert cache(path).ravel().tolist() == list(b"cd")
    path.write_bytes(b"cde")
    os.utime(path, ns=(0, 1))
    assert cache(path).shape == (1, 3, 1)


def test_last_image_is_freed_before_the_next_is_read(tmp_path: Path) -> None:
    seen: list[weakref.ref[Pixels]] = []

    def counted(path: Path) -> Pixels:
        assert all(image() is None for image in seen)
        pixels = np.zeros((2, 2, 1))
        seen.append(weakref.ref(pixels))
        return pixels

    cache = LastImageCache(counted)
    for name in "aab":
        cache(tmp_path / name)
    assert len(seen) == 2 and seen[1]() is not None
    cache.clear()
    assert seen[1]() is None


def test_error_is_cached_with_its_cause_until_the_file_changes(tmp_path: Path) -> None:
    path, tries = tmp_path / "a.png", []
    cache = LastImageCache(lambda path: (tries.append(path), read(path))[1])
    for _ in range(3):
        with pytest.raises(DataError, match="cannot be read") as caught:
            cache(path)
        assert (caught.value.location, caught.value.hint) == (str(path), "bring it back")
        assert isinstance(caught.value.__cause__, FileNotFoundError)
    assert file_state(path) is None and len(tries) == 1
    path.write_bytes(b"ab")
    assert cache(path).size == 2
