"""Folder in which a store is built: a locked sibling of the root that survives a killed build."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rsft.data.chips.store import DATASET, ChipStore, read_dataset
from rsft.data.chips.summary import Counts, count_chips
from rsft.errors import DataError, RequestError, RsftError
from rsft.utils.atomic_files import remove_stale_folders, sync_all
from rsft.utils.process_lock import process_lock
from rsft.utils.work_folder import remove_work_folder
from rsft.utils.write_errors import as_os_error, explain_os_error

_OTHER_ROOT = "choose another --root"
_AGAIN = "run the same command again: it resumes where it stopped"
_log = logging.getLogger(__name__)


def check_root_is_free(root: Path, overwrite: bool) -> None:
    """Raise an error if a store cannot be written to `root`.

    Args:
        root: folder of the store to be built.
        overwrite: accept an existing chip store, but no other content.

    Raises:
        RequestError: the root contains something else, or a store that must not be overwritten.
    """
    if (root.is_dir() and not any(root.iterdir())) or not root.exists():
        return
    if not (root / DATASET).is_file():
        raise RequestError("the folder contains something that is not a chip store", root, _OTHER_ROOT)
    if not overwrite:
        raise RequestError("a chip store already exists", root, f"add --overwrite, or {_OTHER_ROOT}")


def find_finished_store(root: Path, command: str, overwrite: bool, counts: Counts | None = None) -> ChipStore | None:
    """Return the store at `root` if the same command has built it, so that a repeated command succeeds.

    Work folders that a build left when it was killed in its last step are removed.

    Args:
        root: folder of the store to be built.
        command: the command that builds it; `--root` is not compared.
        overwrite: whether to build it again.
        counts: number of chips by split and class, if the command does not imply it.

    Returns:
        The finished store; None if the store must be built.

    Raises:
        RequestError: `root` contains something else, or a store that another command has built.
    """
    is_finished = (root / DATASET).is_file() and _stored_request(root) == _request(command)
    if overwrite or not is_finished or (counts and count_chips(ChipStore.open(root)) != counts):
        check_root_is_free(root, overwrite)
        return None
    root = root.resolve()
    remove_work_folder(root.parent / f".{root.name}.partial", root.parent / f".{root.name}.lock")
    for folder in work_folders(root):
        remove_work_folder(folder)
    remove_stale_folders(root.parent)
    _log.warning("%s: the same command has built this store already; --overwrite builds it again", root)
    return ChipStore.open(root)


def work_folders(root: Path) -> list[Path]:
    """Return the hidden folders beside a store in which its sources are extracted or simulated.

    Args:
        root: folder of the store.
    """
    root = root.resolve()
    names = [*(f"{name}.unpacked" for name in (root.name, *source_names(root))), f"{root.name}.simulated"]
    return [root.parent / f".{name}" for name in names]


def source_names(root: Path) -> tuple[str, str]:
    """Return the names under which the two archives of FUSRS are extracted.

    Args:
        root: folder of the store.
    """
    return f"{root.name}-fusar", f"{root.name}-srsdd"


def _stored_request(root: Path) -> list[str] | None:
    with suppress(OSError, ValueError, KeyError, DataError):  # a damaged store is not finished
        return _request(str(read_dataset(root)["command"]))
    return None


def _request(command: str) -> list[str]:
    """Return the words of a command without the name of the store."""
    words = shlex.split(command)
    if "--root" in words:
        del words[words.index("--root") : words.index("--root") + 2]
    return words


@contextmanager
def open_build_directory(root: Path, fingerprint: str, overwrite: bool) -> Iterator[Path]:
    """Yield a folder whose subfolder `store/` becomes `root` if the block ends without an exception.

    The folder is `.<name>.partial/<fingerprint>/` beside the root. Folders of other
    fingerprints are removed. The folder is removed after a DataError, and stays after any other error, so that the
    build can be resumed.

    Args:
        root: folder of the store to be built.
        fingerprint: identifies the build, see `StoreDescription.fingerprint`.
        overwrite: whether an existing store may be replaced.

    Yields:
        The folder, with an existing subfolder `store/`.

    Raises:
        RequestError: `root` is not free, or another process builds there.
        RsftError: the disk is full or not writable.
    """
    root = root.resolve()
    partial = root.parent / f".{root.name}.partial"
    try:
        with _locked(root, partial):
            _finish_replacing(root, partial / "old")
            check_root_is_free(root, overwrite)
            folder = _prepare_folder(partial, fingerprint)
            try:
                yield folder
            except DataError:
                shutil.rmtree(folder)
                raise
            _publish(folder / "store", root, partial / "old")
            shutil.rmtree(partial)
    except OSError as error:
        raise explain_os_error(error, partial, _AGAIN) from error
    except sqlite3.Error as error:
        if isinstance(failure := as_os_error(error, partial), OSError):
            raise explain_os_error(failure, partial, _AGAIN) from error
        hint = f"check the disk (or remove this folder), then {_AGAIN}"
        raise RsftError(f"the journal of the build cannot be written: {error}", partial, hint) from error


@contextmanager
def _locked(root: Path, partial: Path) -> Iterator[None]:
    """Hold the lock of `root`, and write the name of this process to the owner file."""
    owner_file = partial / "owner"

    def conflict() -> RequestError:
        owner = owner_file.read_text("utf-8") if owner_file.is_file() else "another process"
        return RequestError(f"{owner} is building this store", root, "wait until it has finished, or stop it")

    with process_lock(root.parent / f".{root.name}.lock", conflict):
        try:
            partial.mkdir(exist_ok=True)
            owner_file.write_text(f"process {os.getpid()} on {socket.gethostname()}", "utf-8")
            yield
        finally:
            owner_file.unlink(missing_ok=True)
            if partial.is_dir() and not any(partial.iterdir()):
                partial.rmdir()


def _prepare_folder(partial: Path, fingerprint: str) -> Path:
    """Return the folder of this build; remove those of builds with another fingerprint."""
    folder = partial / fingerprint
    for other in partial.iterdir():
        if other.is_dir() and other != folder:
            _log.warning("%s: removing an unfinished build with other arguments", partial)
            shutil.rmtree(other)
    if not (folder / "store").is_dir():
        if folder.exists():
            shutil.rmtree(folder)
        (folder / "store").mkdir(parents=True)
    return folder


def _finish_replacing(root: Path, old: Path) -> None:
    """Restore or remove the `old` store that a build left when it was killed in its last step."""
    if old.is_dir() and root.exists():
        shutil.rmtree(old)
    elif old.is_dir():
        old.replace(root)


def _publish(store: Path, root: Path, old: Path) -> None:
    sync_all()  # the chips must be on the disk before the root has its name
    if root.exists() and any(root.iterdir()):
        root.replace(old)
    store.replace(root)
