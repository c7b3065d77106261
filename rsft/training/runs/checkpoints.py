"""Checkpoint files. A file is complete or absent, and the last two are kept."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rsft.errors import RsftError
from rsft.utils.atomic_files import atomic_file

CHECKPOINT_FORMAT = 1
"""Version of the content; files of another version are not read."""

MAX_CHECKPOINTS = 2
"""Files that are kept."""

_log = logging.getLogger(__name__)


class TrainingPosition(NamedTuple):
    """A moment between two steps.

    Attributes:
        epoch: the current epoch from 0; the number of epochs when training has ended.
        batch: finished batches of this epoch.
    """

    epoch: int = 0
    batch: int = 0

    def __str__(self) -> str:
        return f"epoch {self.epoch + 1}, batch {self.batch}" if self.batch else f"the start of epoch {self.epoch + 1}"


class Checkpoint(NamedTuple):
    """A saved state of training.

    Attributes:
        position: where training continues.
        state: of `capture_state`.
        path: the file; None for a state that was not read from one.
    """

    position: TrainingPosition
    state: dict[str, Any]
    path: Path | None = None


def save_checkpoint(folder: Path, position: TrainingPosition, state: Mapping[str, Any]) -> Path:
    """Write a checkpoint, and delete all but the last two.

    Args:
        folder: of the checkpoints.
        position: where training continues.
        state: tensors, numbers and strings in nested containers.

    Returns:
        The path of the file.

    Raises:
        RsftError: the disk is full; earlier checkpoints stay.
    """
    path = folder / f"{position.epoch:05d}-{position.batch:07d}.ckpt"
    try:
        with atomic_file(path) as temporary:
            torch.save({"format": CHECKPOINT_FORMAT, "position": tuple(position), "state": dict(state)}, temporary)
    except (OSError, RuntimeError) as error:  # torch's zip writer raises RuntimeError if a write fails
        if isinstance(error, RuntimeError) and "write" not in str(error):
            raise
        is_full = isinstance(error, RuntimeError) or error.errno in (errno.ENOSPC, errno.EDQUOT)
        message = "the disk has no room for the checkpoint" if is_full else f"the checkpoint cannot be written: {error}"
        raise RsftError(message, path, "free some space and resume; the previous checkpoint is complete") from error
    for old_path in _checkpoint_files(folder)[:-MAX_CHECKPOINTS]:
        old_path.unlink(missing_ok=True)
    return path


def load_newest_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the newest checkpoint that can be read. Files are read with `weights_only`, so no code in them runs.

    Args:
        folder: of the checkpoints.

    Returns:
        The checkpoint; None if the folder has no files.

    Raises:
        RsftError: none of the files can be read.
    """
    files = _checkpoint_files(folder)
    for path in reversed(files):
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            if content["format"] == CHECKPOINT_FORMAT:
                return Checkpoint(TrainingPosition(*content["position"]), content["state"], path)
            _log.warning("%s: format %s; this version of rsft reads %d", path, content["format"], CHECKPOINT_FORMAT)
        except Exception as error:  # the type depends on where the file is damaged
            _log.warning("%s cannot be read (%s)", path, type(error).__name__)
    if files:
        raise RsftError("no checkpoint can be read", folder, "start the run again from its recipe.yaml")
    return None


def _checkpoint_files(folder: Path) -> list[Path]:
    """Return the files in the order of training."""
    return sorted(folder.glob("*.ckpt"))
