"""Read the tensors of a weights file, mapped from the file where possible.

A file is read as plain tensors, without running code from it.
"""

import argparse
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor, serialization

from rsft.backbones.card import State
from rsft.errors import WeightsError
from rsft.utils.untrusted.documents import open_regular
from rsft.utils.untrusted.torch_files import (
    REWRITE_HINT,
    DamagedTorchFileError,
    check_torch_file,
)

WRAPPERS = ("model", "state_dict", "model_state_dict", "teacher")
"""Keys under which training scripts store the network; the first key in the file is
used."""

_MAX_WRAPPERS = 8
_TRUST_HINT = (
    "use the publisher's own file, or a safetensors file from a source you trust"
)
_FORBIDDEN = re.compile(r"GLOBAL (\S+)|function (<.*?>)|(TorchScript)")


def read_checkpoint(path: Path) -> State:
    """Read the tensors of a network.

    The tensors are views of the mapped file. Pages are loaded when they are read, and
    the system can release them again. A write to a tensor changes memory of this
    process only, not the file. While the tensors are in use, the file may be replaced,
    but not overwritten in place. A pickle may contain only containers, numbers, tensors
    and an `argparse.Namespace`.

    Args:
        path: a safetensors file or a torch.save file (.pth, .pt, .bin, .ckpt). The
            network may be stored under one of the keys in `WRAPPERS`, or as one mapping
            per part.

    Returns:
        Tensors by name; those of a part have its name and a dot before their own.

    Raises:
        WeightsError: the file is missing, is damaged, has another format, or contains
            more than tensors.
    """
    try:
        with open_regular(path) as file:
            start = file.read(24)
    except OSError as error:
        raise WeightsError(
            f"the weights file cannot be read: {error.strerror}", path, "check the path"
        ) from error
    if start.startswith(b"PK"):
        return _take_tensors(read_torch_file(path), path)
    if _is_safetensors(start):
        try:
            return _take_tensors(load_file(path), path)
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise _damaged(path, error) from error
    # no content is shown: a stranger's recipe may name a private file
    raise WeightsError(
        "this is neither a safetensors file nor one of torch.save since torch 1.6",
        path,
        f"download it again, or {REWRITE_HINT}",
    )


def _damaged(path: Path, fault: object) -> WeightsError:
    return WeightsError(f"the file is damaged: {fault}", path, "download it again")


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file; empty for other files.

    `read_checkpoint` has read the file.
    """
    with path.open("rb") as file:
        if not _is_safetensors(file.read(24)):
            return {}
    with safetensors.safe_open(path, "pt") as tensors:
        return dict(tensors.metadata() or {})


def _is_safetensors(start: bytes) -> bool:
    return start[8:9] == b"{"  # after the length of the header


def read_torch_file(path: Path) -> Any:
    """Read a torch.save file of plain containers, numbers and mapped tensors.

    Raises:
        WeightsError: the file is damaged, or contains more than tensors.
        OSError: the file cannot be read.
    """
    try:
        is_complete = zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # its last bytes say that it has several parts
        is_complete = False
    if not is_complete:
        raise WeightsError(
            "the file is truncated: its end is missing", path, "download it again"
        )
    try:
        check_torch_file(path)
    except DamagedTorchFileError as error:
        raise _damaged(path, error) from error
    except ValueError as error:
        raise WeightsError(
            f"the file is not safe to load: {error}", path, _TRUST_HINT
        ) from error
    allowed = serialization.get_safe_globals()
    serialization.clear_safe_globals()  # of classes that other libraries have allowed
    try:
        with serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # a damaged or hostile pickle raises anything
        match = _FORBIDDEN.search(str(error))
        if not match:
            text = str(error).strip() or type(error).__name__
            raise _damaged(path, text.splitlines()[0]) from error
        raise WeightsError(
            f"the file asks for {match[match.lastindex or 0]}, which is not allowed; no"
            " code in it was run",
            path,
            _TRUST_HINT,
        ) from error
    finally:
        serialization.clear_safe_globals()
        serialization.add_safe_globals(allowed)


def _unwrap(stored: Any) -> Any:
    """Return the innermost mapping of a file, with the tensors of all parts."""
    for _ in range(_MAX_WRAPPERS):  # a mapping may contain itself
        for key in WRAPPERS:
            if isinstance(stored, Mapping) and isinstance(stored.get(key), Mapping):
                stored = stored[key]
                break
    if not isinstance(stored, Mapping):
        return stored
    if not all(isinstance(part, Mapping) for part in stored.values()):
        return stored
    joined = {}
    for part, tensors in stored.items():
        for key, value in tensors.items():
            joined[f"{part}.{key}"] = value
    return joined


def _take_tensors(stored: Any, path: Path) -> State:
    """Return the network in the content of a file, which must hold tensors alone."""
    stored = _unwrap(stored)
    hint = (
        "use a file that maps names to tensors, directly or under one of"
        f" {', '.join(WRAPPERS)}"
    )
    if not isinstance(stored, Mapping) or not stored:
        raise WeightsError(
            f"the file holds {type(stored).__name__}, not a network", path, hint
        )
    size = path.stat().st_size
    state = {}
    for key, value in stored.items():
        is_tensor = isinstance(value, Tensor) and value.layout == torch.strided
        if not is_tensor or not isinstance(key, str):
            raise WeightsError(
                f"{key!r} is not a plain tensor but {type(value).__name__}", path, hint
            )
        if value.nbytes > size:  # a view can repeat one number
            raise WeightsError(
                f"the tensor {key!r} is larger than the file", path, _TRUST_HINT
            )
        state[key] = value.detach()
    return state
