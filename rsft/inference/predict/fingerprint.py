"""Recognize a scene that was copied or moved by its content."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from rsft.data.imagery.scene_uri import SceneUri
from rsft.utils.operating_system import path_to_text

if TYPE_CHECKING:
    pass

_BLOCKS = 64

_BLOCK_BYTES = 16384  # parts of a file that are hashed


def scene_fingerprint(uri: SceneUri) -> str | None:
    """Return a hash that changes if the files of a local scene change, but not if they are copied or moved.

    It contains the names of the files in a folder, their sizes, and parts of their
    content.

    Returns:
        Hexadecimal digits; None for scenes on servers.
    """
    path = uri.path
    if path is None or not path.exists():
        return None
    digest = hashlib.sha256()
    for name in (
        sorted(x for x in path.rglob("*") if x.is_file()) if path.is_dir() else [path]
    ):
        if path.is_dir():
            digest.update(path_to_text(name.relative_to(path)).encode())
        size = name.stat().st_size
        digest.update(str(size).encode())
        with name.open("rb") as file:
            for number in range(_BLOCKS if size > _BLOCK_BYTES else 1):
                file.seek(max(0, size - _BLOCK_BYTES) * number // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()[:32]
