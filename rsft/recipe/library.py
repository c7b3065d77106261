"""The recipes that come with rsft. Each begins with a comment: a title, the commands (`# rsft ...`), what to know."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from rsft.errors import RequestError


@dataclass(frozen=True)
class Shipped:
    """A recipe that comes with rsft, as its header describes it; `command` has one line a command."""

    name: str
    path: Path
    title: str
    command: str
    about: str


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
    path = Path(name_or_path)
    if path.is_file():
        return path
    shipped = {file.stem: file for file in sorted(library_folder().glob("*.yaml"))}
    if path.name == str(name_or_path) and path.name.removesuffix(".yaml") in shipped:
        return shipped[path.name.removesuffix(".yaml")]
    near = difflib.get_close_matches(path.name.removesuffix(".yaml"), shipped, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise RequestError("there is no such recipe", path, f"{hint}`rsft recipes ls` lists those that come with rsft")


def list_recipes() -> list[Shipped]:
    """The shipped recipes, by name."""
    return [_read_header(path) for path in sorted(library_folder().glob("*.yaml"))]


def _read_header(path: Path) -> Shipped:
    lines = path.read_text(encoding="utf-8").splitlines()
    title, *rest = [line.lstrip("# ").rstrip() for line in takewhile(lambda line: line.startswith("#"), lines)] or [""]
    commands = [line for line in rest if line.startswith("rsft ")]
    about = " ".join(line for line in rest if line and line not in commands)
    return Shipped(path.stem, path, title, "\n".join(commands), about)
