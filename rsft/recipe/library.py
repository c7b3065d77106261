"""The recipes and sweeps that come with rsft. Each begins with a comment: a title, the commands, what to know."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from rsft.errors import RequestError


@dataclass(frozen=True)
class Shipped:
    """A recipe or sweep that comes with rsft, as its header describes it; `command` has one line a command."""

    name: str
    path: Path
    title: str
    command: str
    about: str

    @property
    def group(self) -> str:
        """The title up to its colon: what the recipes of one transfer have in common; "" without a colon."""
        return self.title.rpartition(": ")[0]

    @property
    def what(self) -> str:
        """The title behind its colon."""
        return self.title.rpartition(": ")[2]

    def tells(self, word: str) -> bool:
        """Whether name or header hold `word`, whatever its case."""
        return word.lower() in "\n".join((self.name, self.title, self.command, self.about)).lower()


def library_folder() -> Path:
    """Where shipped recipes are: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def find_recipe(name_or_path: str | Path) -> Path:
    """The file of a recipe given by path, or by the name of a shipped one with or without `.yaml`.

    Raises:
        RequestError: neither a file nor a shipped recipe.
    """
    return _find(name_or_path, library_folder(), "recipe", "`rsft recipes ls`")


def list_recipes() -> list[Shipped]:
    """The shipped recipes, by name."""
    return _list(library_folder())


def find_sweep(name_or_path: str | Path) -> Path:
    """The file of a sweep, likewise.

    Raises:
        RequestError: neither a file nor a shipped sweep.
    """
    return _find(name_or_path, library_folder() / "sweeps", "sweep", "`rsft sweep`")


def list_sweeps() -> list[Shipped]:
    """The shipped sweeps, by name."""
    return _list(library_folder() / "sweeps")


def _find(name_or_path: str | Path, folder: Path, what: str, command: str) -> Path:
    path = Path(name_or_path)
    if path.is_file():
        return path
    shipped = {file.stem: file for file in sorted(folder.glob("*.yaml"))}
    if path.name == str(name_or_path) and path.name.removesuffix(".yaml") in shipped:
        return shipped[path.name.removesuffix(".yaml")]
    near = difflib.get_close_matches(path.name.removesuffix(".yaml"), shipped, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise RequestError(f"there is no such {what}", path, f"{hint}{command} lists those that come with rsft")


def _list(folder: Path) -> list[Shipped]:
    return [_read_header(path) for path in sorted(folder.glob("*.yaml"))]


def _read_header(path: Path) -> Shipped:
    lines = path.read_text(encoding="utf-8").splitlines()
    title, *rest = [line.lstrip("# ").rstrip() for line in takewhile(lambda line: line.startswith("#"), lines)] or [""]
    commands = [line for line in rest if line.startswith(("rsft ", "python -m "))]
    about = " ".join(line for line in rest if line and line not in commands)
    return Shipped(path.stem, path, title, "\n".join(commands), about)
