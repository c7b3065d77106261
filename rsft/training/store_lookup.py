"""Find the chip store of a recipe among those that `rsft prepare` noted."""

from __future__ import annotations

import re
from pathlib import Path

from rsft.data.chips.manifest import MANIFEST
from rsft.data.chips.store import DATASET
from rsft.data.chips.store_notes import find_notes
from rsft.errors import RequestError
from rsft.recipe.library import read_header

_PREPARE = re.compile(r"^rsft prepare (\S+)", re.MULTILINE)


def find_chip_store(root: str, source: Path) -> tuple[str, str]:
    """Return the chip store of a recipe: its `data.root`, or a noted store of its name.

    The name is that of the folder `data.root`, or of the data set in the `rsft prepare`
    command of the recipe's header.

    Args:
        root: `data.root` as the file of the recipe has it.
        source: file of the recipe.

    Returns:
        The folder of the store, and a sentence if it is not `root`; otherwise "".

    Raises:
        RequestError: no store or several stores have this name.
        DataError: the list of stores is damaged.
    """
    folder = Path(root).absolute()
    if any((folder / name).exists() for name in (MANIFEST, DATASET)):
        return root, ""
    header = read_header(source)
    command = _PREPARE.search(header.command)
    notes = find_notes(folder.name, command[1] if command else "")
    intact = []
    unused = ""
    for note in notes:
        fault = note.find_fault()
        if fault:
            unused += f"; not {note.path}: {fault}"
        else:
            intact.append(note)
    names = ", ".join(
        f"{note.path} ({note.command}, noted on {note.noted} UTC)" for note in intact
    )
    if len(intact) == 1:
        sentence = f"{root} is not a chip store, so this recipe reads {names}{unused}"
        return intact[0].path, sentence
    if intact:
        raise RequestError(
            f"{root} is not a chip store, and {len(intact)} stores of this name are"
            f" noted: {names}{unused}",
            "data.root",
            f"name one of them: data.root={intact[0].path}",
        )
    first = " && ".join(header.first_commands)
    hint = f"run {first}" if first else "build it with `rsft prepare`"
    raise RequestError(
        f"the chip store does not exist{unused}",
        root,
        f"{hint}, or name another store: data.root=ROOT",
    )
