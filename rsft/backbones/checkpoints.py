"""Read weights files of other projects as plain tensors, mapped into memory, without running code from the file."""

from __future__ import annotations

import argparse
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, serialization

from rsft.errors import WeightsError
from rsft.utils.untrusted.regular_files import open_regular
from rsft.utils.untrusted.torch_files import REWRITE_HINT, DamagedTorchFileError, check_torch_file

WRAPPERS = ("model", "state_dict", "model_state_dict", "teacher")
"""Keys under which training scripts store the network; the first key in the file is used."""

_DOWNLOAD_HINT = "download it again"
_MAX_WRAPPERS = 8
_TRUST_HINT = "use the publisher's own file, or a safetensors file from a source you trust"


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a network from a safetensors file or a torch.save file (.pth, .pt, .bin, .ckpt).

    The tensors are views of the mapped file. Pages are loaded when they are read, and the system can release them
    again. A write to a tensor changes memory of this process only, not the file. While the tensors are in use, the file
    may be replaced, but not overwritten in place. A pickle may contain only containers, numbers, tensors and an
    `argparse.Namespace`.

    Args:
        path: the file. The network may be stored under one of the keys in `WRAPPERS`.

    Returns:
        Tensors by name.

    Raises:
        WeightsError: the file is missing, is damaged, has another format, or contains more than tensors.
    """
    try:
        with open_regular(path) as file:
            start = file.read(24)
    except OSError as error:
        raise WeightsError(f"the weights file cannot be read: {error.strerror}", path, "check the path") from error
    if start.startswith(b"PK"):
        stored = _read_zip(path)
    elif _is_safetensors(start):
        stored = _read_safetensors(path)
    elif start.startswith(b"\x80"):
        raise WeightsError("this is a pickle from before torch 1.6, which cannot be mapped", path, REWRITE_HINT)
    else:
        message = f"this is not a weights file: it begins with {start!r}" if start else "the weights file is empty"
        raise WeightsError(message, path, _DOWNLOAD_HINT)
    return _check_tensors(_unwrap(stored), path)


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file; empty for other files.

    Args:
        path: the file, which `read_checkpoint` has read.
    """
    with path.open("rb") as file:
        if not _is_safetensors(file.read(24)):
            return {}
    with safetensors.safe_open(path, "pt") as tensors:
        return dict(tensors.metadata() or {})


def _is_safetensors(start: bytes) -> bool:
    return start[8:9] == b"{"  # after the length of the header


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"the file is damaged: {error}", path, _DOWNLOAD_HINT) from error


def _read_zip(path: Path) -> Any:
    if not zipfile.is_zipfile(path):
        raise WeightsError("the file is truncated: its end is missing", path, _DOWNLOAD_HINT)
    try:
        check_torch_file(path)
    except DamagedTorchFileError as error:
        raise WeightsError(f"the file is damaged: {error}", path, _DOWNLOAD_HINT) from error
    except ValueError as error:
        raise WeightsError(f"the file is not safe to load: {error}", path, _TRUST_HINT) from error
    try:
        with _allow_only_namespace():
            return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # a damaged or hostile pickle raises anything
        raise _unreadable_error(path, error) from error


@contextmanager
def _allow_only_namespace() -> Iterator[None]:
    """Allow `argparse.Namespace` in pickles, and disallow the classes that other libraries have allowed."""
    previous_globals = serialization.get_safe_globals()
    serialization.clear_safe_globals()
    try:
        with serialization.safe_globals([argparse.Namespace]):
            yield
    finally:
        serialization.clear_safe_globals()
        serialization.add_safe_globals(previous_globals)


def _unreadable_error(path: Path, error: Exception) -> WeightsError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    for line in lines:
        if match := re.search(r"GLOBAL (\S+)|function (<.*?>)|(TorchScript)", line):
            global_name = next(filter(None, match.groups()))
            return WeightsError(
                f"the file asks for {global_name}, which is not allowed; no code in it was run", path, _TRUST_HINT
            )
    return WeightsError(f"the file is damaged: {lines[0]}", path, _DOWNLOAD_HINT)


def _unwrap(stored: Any) -> Any:
    """Return the innermost mapping, which holds the tensors."""
    for _ in range(_MAX_WRAPPERS):  # a mapping may contain itself
        if not isinstance(stored, Mapping):
            break
        inner = next((stored[key] for key in WRAPPERS if isinstance(stored.get(key), Mapping)), None)
        if inner is None:
            break
        stored = inner
    return stored


def _check_tensors(stored: Any, path: Path) -> dict[str, Tensor]:
    hint = f"use a file that maps names to tensors, directly or under one of {', '.join(WRAPPERS)}"
    if not isinstance(stored, Mapping) or not stored:
        raise WeightsError(f"the file holds {type(stored).__name__}, not a network", path, hint)
    for key, value in stored.items():
        if not (isinstance(key, str) and isinstance(value, Tensor) and value.layout == torch.strided):
            raise WeightsError(f"{key!r} is not a plain tensor but {type(value).__name__}", path, hint)
        if value.nbytes > path.stat().st_size:  # a view can repeat one number
            raise WeightsError(f"the tensor {key!r} is larger than the file", path, _TRUST_HINT)
    return {key: value.detach() for key, value in stored.items()}
