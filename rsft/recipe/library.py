"""The recipes and sweeps that come with rsft.

Each file begins with a comment: title, commands, and remarks.
"""

import difflib
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from rsft.errors import RequestError

SMALL_NETWORK_RECIPE = "mstar_lt_small"
"""The recipe of the small network without pre-training."""

SHIPPED = "recipes"
"""Folder of the recipes in a clone."""

AUTO = "auto"
"""Name of the file that lets rsft choose among recipes, and its value of the key
`method`."""


_TRAINING = ("rsft finetune", "rsft sweep")


@dataclass(frozen=True)
class LibraryEntry:
    """A recipe or sweep that comes with rsft, as its header describes it.

    `title` is the first line of the header, "" without one; `command` are the commands
    that run it, one line each, and `about` the other lines of the header as one line.
    """

    name: str
    path: Path
    title: str
    command: str
    about: str

    @property
    def group(self) -> str:
        """The title up to its last colon, which recipes share; "" without a colon."""
        return self.title.rpartition(": ")[0]

    @property
    def first_commands(self) -> list[str]:
        """The commands before the training, which build the chip store."""
        return list(
            takewhile(
                lambda line: not line.startswith(_TRAINING), self.command.splitlines()
            )
        )

    def matches(self, word: str) -> bool:
        """Return whether name or header contain `word`, in upper or lower case."""
        return (
            word.lower()
            in "\n".join((self.name, self.title, self.command, self.about)).lower()
        )


def library_folder() -> Path:
    """Return the folder of the recipes, inside the package or beside it."""
    package = Path(__file__).parents[1]
    inside = package / "recipes"
    if inside.is_dir():
        return inside
    return package.parent / "recipes"


def find_recipe(name_or_path: str | Path, kind: str = "recipe") -> Path:
    """Return the file of a recipe or sweep, by its path or its name in rsft.

    `recipes/NAME.yaml` is the path of a recipe in a clone. Where no such file is, it
    stands for the recipe NAME.

    Raises:
        RequestError: no file, and nothing of rsft of this kind, has the name.

    Example:
        >>> find_recipe("quickstart").name
        'quickstart.yaml'
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    kinds = ["sweep"]
    hint = "`rsft sweep` lists those that come with rsft"
    if kind == "recipe":
        kinds = ["recipe", "paper", "candidate", "auto"]
        hint = (
            "`rsft recipes ls` lists those that come with rsft, `rsft sweep` the sweeps"
        )
    files = {file.stem: file for file in _files(*kinds)}
    stem = path.name.removesuffix(".yaml")
    if stem in files and (len(path.parts) == 1 or path.parts[0] == SHIPPED):
        return files[stem]
    matches = difflib.get_close_matches(stem, files, 1)
    if matches:
        hint = f"did you mean {matches[0]}? {hint}"
    raise RequestError(f"no such {kind}", path, hint)


def list_entries(*kinds: str) -> list[LibraryEntry]:
    """Return what comes with rsft of some kinds, sorted by kind and name.

    Args:
        kinds: "recipe", "paper", "sweep", "candidate" (a recipe without data) and
            "auto" (the choice among candidates).
    """
    return list(map(read_header, _files(*kinds)))


_FILES = {
    "recipe": "*.yaml",
    "auto": f"{AUTO}.yaml",
    "paper": "paper/*.yaml",
    "sweep": "sweeps/*.yaml",
    "candidate": "auto/*.yaml",
}
"""Kind -> pattern of its files in `library_folder`."""


def _files(*kinds: str) -> list[Path]:
    files = []
    for kind in kinds:
        paths = sorted(library_folder().glob(_FILES[kind]))
        files += [path for path in paths if kind == AUTO or path.stem != AUTO]
    return files


def read_header(path: Path) -> LibraryEntry:
    """Read the comment with which a recipe or sweep file begins."""
    lines = path.read_text(encoding="utf-8").splitlines()
    header = [
        line.lstrip("# ").rstrip()
        for line in takewhile(lambda line: line.startswith("#"), lines)
    ]
    title, *others = header or [""]
    commands = [line for line in others if line.startswith(("rsft ", "python -m "))]
    about = " ".join(line for line in others if line and line not in commands)
    return LibraryEntry(path.stem, path, title, "\n".join(commands), about)
