"""Checkpoints: all that moves in a run, at one position of it. Files are whole or not there; the last two are kept."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rsft.errors import RsftError
from rsft.utils.atomic_files import replacing

FORMAT = 1
"""Version of the content; a file of another version is refused."""

KEPT = 2
_log = logging.getLogger(__name__)


class Position(NamedTuple):
    """A place between two steps.

    Attributes:
        epoch: the one that goes on, from 0; the number of epochs where training is over.
        batch: batches of it that are done.
    """

    epoch: int = 0
    batch: int = 0

    def __str__(self) -> str:
        return f"epoch {self.epoch + 1}, batch {self.batch}" if self.batch else f"the start of epoch {self.epoch + 1}"


class Checkpoint(NamedTuple):
    """What was saved, and where training goes on."""

    position: Position
    state: dict[str, Any]


def save_checkpoint(folder: Path, position: Position, state: Mapping[str, Any]) -> Path:
    """Write tensors, numbers and texts in nested containers, and remove all but the last two files.

    Raises:
        RsftError: the disk is full; what was written before stays.
    """
    path = folder / f"{position.epoch:05d}-{position.batch:07d}.ckpt"
    try:
        with replacing(path) as temporary:
            torch.save({"format": FORMAT, "position": tuple(position), "state": dict(state)}, temporary)
    except (OSError, RuntimeError) as error:  # torch's zip writer says RuntimeError where a write fails
        if isinstance(error, RuntimeError) and "write" not in str(error):
            raise
        full = isinstance(error, RuntimeError) or error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "there is no room for the checkpoint" if full else f"the checkpoint cannot be written: {error}"
        raise RsftError(what, path, "the one before it is whole; make room and resume") from error
    for old in _files(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The last one that can be read; None where there is none. Nothing in it is executed: `weights_only`.

    Raises:
        RsftError: none of those that are there can be read.
    """
    files = _files(folder)
    for path in reversed(files):
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
            if found["format"] == FORMAT:
                return Checkpoint(Position(*found["position"]), found["state"])
            _log.warning("%s: format %s; this rsft reads %d", path, found["format"], FORMAT)
        except Exception as error:  # what torch raises depends on where the damage is
            _log.warning("%s cannot be read (%s)", path, type(error).__name__)
    if files:
        raise RsftError("no checkpoint can be read", folder, "start the run again from its recipe.yaml")
    return None


def _files(folder: Path) -> list[Path]:
    """In the order of training."""
    return sorted(folder.glob("*.ckpt"))
