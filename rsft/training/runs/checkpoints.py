"""Save and load checkpoint files. Files are written atomically, and only the last two stay."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rsft.errors import RsftError
from rsft.utils.atomic_files import atomic_file
from rsft.utils.untrusted.torch_files import check_torch_file
from rsft.utils.write_errors import explain_os_error

CHECKPOINT_FORMAT = 1
"""Version of the content; rsft does not read files of another version."""

MAX_CHECKPOINTS = 2
"""Number of checkpoint files that stay."""

_log = logging.getLogger(__name__)


class TrainingPosition(NamedTuple):
    """A moment between two steps.

    Attributes:
        epoch: the current epoch, from 0; the number of epochs after the end of training.
        batch: finished batches of this epoch.
    """

    epoch: int = 0
    batch: int = 0

    def __str__(self) -> str:
        return f"epoch {self.epoch + 1}, batch {self.batch}" if self.batch else f"the start of epoch {self.epoch + 1}"


class Checkpoint(NamedTuple):
    """A saved state of training.

    Attributes:
        position: the position from which training continues.
        state: the state, from `capture_state`.
        path: the file; None for a state that was not read from a file.
    """

    position: TrainingPosition
    state: dict[str, Any]
    path: Path | None = None


def save_checkpoint(folder: Path, position: TrainingPosition, state: Mapping[str, Any]) -> Path:
    """Write a checkpoint, and delete all but the last two.

    Args:
        folder: the folder of the checkpoints.
        position: the position from which training continues.
        state: tensors, numbers and strings in nested containers.

    Returns:
        The path of the file.

    Raises:
        RsftError: the file cannot be written, for example because the disk is full; earlier checkpoints stay.
    """
    path = folder / f"{position.epoch:05d}-{position.batch:07d}.ckpt"
    try:
        with atomic_file(path) as temporary:
            torch.save({"format": CHECKPOINT_FORMAT, "position": tuple(position), "state": dict(state)}, temporary)
    except OSError as error:
        raise explain_os_error(error, path, "resume; the previous checkpoint is complete") from error
    for old_path in _checkpoint_files(folder)[:-MAX_CHECKPOINTS]:
        old_path.unlink(missing_ok=True)
    return path


def load_newest_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the newest readable checkpoint. Files are read with `weights_only`, so that no code in them runs.

    Args:
        folder: the folder of the checkpoints.

    Returns:
        The checkpoint; None if the folder has no files.

    Raises:
        RsftError: none of the files can be read.
    """
    files = _checkpoint_files(folder)
    for path in reversed(files):
        try:
            check_torch_file(path)
            content = torch.load(path, map_location="cpu", weights_only=True)
            if content["format"] == CHECKPOINT_FORMAT:
                return Checkpoint(TrainingPosition(*content["position"]), content["state"], path)
            _log.warning("%s: format %s; this version of rsft reads %d", path, content["format"], CHECKPOINT_FORMAT)
        except ValueError as error:
            _log.warning("%s cannot be read: %s", path, error)
        except Exception as error:  # the type depends on where the file is damaged
            _log.warning("%s cannot be read (%s)", path, type(error).__name__)
    if files:
        raise RsftError("no checkpoint can be read", folder, "start the run again from its recipe.yaml")
    return None


def _checkpoint_files(folder: Path) -> list[Path]:
    """Return the checkpoint files in the order of training."""
    return sorted(folder.glob("*.ckpt"))
