"""`rsft recipes`: list, show, copy and check recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsft.cli.display.console import console
from rsft.cli.options import OverridesArgument, RecipeArgument, WordArgument

app = typer.Typer(help="List, show, copy and check recipes.", no_args_is_help=True)


@app.command("ls")
def recipes_ls(word: WordArgument = "") -> None:
    """List the shipped recipes, grouped by transfer, such as natural images to SAR."""
    from itertools import groupby

    from rich.padding import Padding
    from rich.table import Table

    from rsft.errors import RequestError
    from rsft.recipe.library import list_recipes

    entries = [entry for entry in list_recipes() if entry.matches(word)]
    if not entries:
        raise RequestError("no recipe contains this word", word, "leave the word out to list all recipes")
    width = max(len(entry.name) for entry in entries)
    for group, members in groupby(entries, key=lambda entry: entry.group):
        console.print(group)
        table = Table.grid(padding=(0, 2))
        table.add_column(width=width, style="bold")
        for entry in members:
            table.add_row(entry.name, entry.subtitle)
        console.print(Padding(table, (0, 0, 1, 2), expand=False))
    console.print(f"{len(entries)} recipes; `rsft recipes show NAME` prints one with its commands", style="dim")


@app.command("show")
def recipes_show(recipe: RecipeArgument) -> None:
    """Print a recipe."""
    from rsft.recipe.library import find_recipe

    _print_yaml(find_recipe(recipe).read_text(encoding="utf-8"))


@app.command("cp")
def recipes_cp(
    recipe: RecipeArgument, target: Annotated[Path, typer.Argument(help="New file, or a folder for it.")]
) -> None:
    """Copy a shipped recipe to a new file, for editing."""
    from rsft.errors import RequestError
    from rsft.recipe.library import find_recipe
    from rsft.utils.atomic_files import write_bytes

    source = find_recipe(recipe)
    target = target / source.name if target.is_dir() else target
    if target.exists():
        raise RequestError("the file exists already", target, "choose another name")
    write_bytes(target, source.read_bytes())
    console.print(f"{target}")


@app.command("validate")
def recipes_validate(recipe: RecipeArgument, overrides: OverridesArgument = None) -> None:
    """Check a recipe, report all faults at once, and print it with all defaults."""
    from rsft.recipe.library import find_recipe
    from rsft.recipe.load import dump_recipe, load_recipe

    _print_yaml(dump_recipe(load_recipe(find_recipe(recipe), overrides or [])))


def _print_yaml(text: str) -> None:
    """Print YAML: in color and in the width of a terminal, and otherwise line by line as it is."""
    from rich.syntax import Syntax
    from rich.text import Text

    if console.is_terminal:
        console.print(Syntax(text, "yaml", background_color="default", word_wrap=True))
    else:
        console.print(Text(text), end="", soft_wrap=True)
