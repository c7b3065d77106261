"""Describe how chips were cut from a scene, so that the same chips can be cut again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from rsft.data.imagery.scene_uri import SceneUri
from rsft.inference.inputs.chip_source import path_to_text
from rsft.inference.inputs.scene_chips import SceneChips

_BLOCKS, _BLOCK_BYTES = 64, 16384  # parts of a file that are hashed


def cut_record(source: SceneChips) -> dict[str, Any]:
    """Describe how the chips of a scene are cut.

    Args:
        source: the chips.

    Returns:
        JSON values: name, absolute path and fingerprint of the scene; the unit in which it is read; side, margin and
        scale of the chips; whether they are tiles.
    """
    window = source.window
    return {
        "scene": path_to_text(source.scene.path.name),
        "path": path_to_text(source.scene.path.absolute()),
        "fingerprint": scene_fingerprint(source.scene.path),
        "unit": source.unit,
        "side": window.side,
        "margin": window.margin,
        "scale": list(window.scale),
        "tiles": source.is_tiled,
    }


def scene_fingerprint(uri: SceneUri) -> str | None:
    """Return a hash that changes if the files of a local scene change, but not if they are copied or moved.

    It contains the names of the files in a folder, their sizes, and parts of their content.

    Args:
        uri: the scene.

    Returns:
        Hexadecimal digits; None for scenes on servers.
    """
    path = uri.path
    if path is None or not path.exists():
        return None
    files = sorted(x for x in path.rglob("*") if x.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        if path.is_dir():
            digest.update(path_to_text(file.relative_to(path)).encode())
        _update(digest, file)
    return digest.hexdigest()[:32]


def _update(digest: Any, path: Path) -> None:
    size = path.stat().st_size
    digest.update(str(size).encode())
    with path.open("rb") as file:
        for number in range(_BLOCKS):
            file.seek(max(0, size - _BLOCK_BYTES) * number // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK_BYTES))
            if size <= _BLOCK_BYTES:
                break
