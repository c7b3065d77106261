"""Note the chip stores that `rsft prepare` builds, so that recipes find them.

The notes are a file of the user.

The file is a list in JSON. It stays on this machine, and nothing else is stored about a
store outside of it.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from platformdirs import user_data_path
from pydantic import BaseModel

from rsft.errors import DataError, RequestError, RsftError
from rsft.utils.atomic_files import process_lock, sha256, write_text
from rsft.utils.untrusted.documents import load_json
from rsft.utils.write_errors import explain_os_error

NOTES_VARIABLE = "RSFT_STORES"
"""Environment variable with another path of the file."""

MAX_NOTES = 1000
"""Notes that the file keeps; the oldest ones are dropped."""


class StoreNote(BaseModel):
    """A chip store, as it was when it was noted.

    Attributes:
        data_set: name of the published data set; "" for other chips, whose store is
            known by the name of its folder.
        path: its folder, absolute.
        noted: date and time in UTC, as YYYY-MM-DD HH:MM.
        manifest_sha256: hash of its manifest, which has the hash of every chip.
        command: the command that built it.
    """

    data_set: str
    path: str
    noted: str
    manifest_sha256: str
    command: str

    def find_fault(self) -> str:
        """Return why the store is not the one that was noted; "" if it is."""
        from rsft.data.chips.manifest import MANIFEST
        from rsft.data.chips.store import ChipStore

        manifest = Path(self.path) / MANIFEST
        try:
            if not manifest.is_file():
                return "it was moved or deleted"
            if sha256(manifest) != self.manifest_sha256:
                return "its manifest has changed"
            ChipStore.open(Path(self.path))
        except OSError as error:
            return f"it cannot be read ({error.strerror})"
        except RsftError as error:
            return error.message
        return ""


class _Notes(BaseModel):
    stores: list[StoreNote]


def notes_file() -> Path:
    """Return the path of the notes.

    It is $RSFT_STORES, or stores.json in the user's folder of data.
    """
    override = os.environ.get(NOTES_VARIABLE)
    if override:
        return Path(override).absolute()
    return user_data_path("rsft") / "stores.json"


def read_notes() -> list[StoreNote]:
    """Read the notes, oldest first; none without a file.

    Raises:
        DataError: the file is damaged.
    """
    file = notes_file()
    try:
        return _Notes.model_validate(load_json(file)).stores
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise DataError(
            "the list of chip stores cannot be read",
            file,
            "delete it; the next `rsft prepare` writes it again",
        ) from error


def note_store(root: Path, data_set: str) -> None:
    """Note a chip store, in place of an earlier note of its folder.

    Args:
        root: folder of the store.
        data_set: name of the published data set; "" for other chips.

    Raises:
        RsftError: the file cannot be written, or is damaged.
    """
    from rsft.data.chips.manifest import MANIFEST
    from rsft.data.chips.store import read_dataset

    root = root.resolve()
    file = notes_file()
    if not file.is_absolute():
        raise RequestError(
            "this user has no home", file, f"set {NOTES_VARIABLE} to the path of a file"
        )
    note = StoreNote(
        data_set=data_set,
        path=str(root),
        noted=datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        manifest_sha256=sha256(root / MANIFEST),
        command=str(read_dataset(root).get("command", "")),
    )
    lock_file = file.with_name(f"{file.name}.lock")
    try:
        with process_lock(lock_file, file, "writes the list of chip stores"):
            notes = [other for other in read_notes() if other.path != note.path]
            notes = [*notes, note][-MAX_NOTES:]
            write_text(file, _Notes(stores=notes).model_dump_json(indent=1))
    except OSError as error:
        raise explain_os_error(error, file) from error


def find_note(root: Path) -> StoreNote | None:
    """Return the note of a chip store that has not changed; None without one.

    Raises:
        DataError: the file is damaged.
    """
    path = str(root.resolve())
    notes = (note for note in read_notes() if note.path == path)
    return next((note for note in notes if not note.find_fault()), None)


def find_notes(name: str, data_set: str = "") -> list[StoreNote]:
    """Return the notes of stores with a name.

    The name is that of their published data set, or of their folder.

    Args:
        name: name of a data set or folder.
        data_set: another name of the data set.

    Raises:
        DataError: the file is damaged.
    """
    names = {name, data_set} - {""}
    return [
        note
        for note in read_notes()
        if note.data_set in names or Path(note.path).name == name
    ]
