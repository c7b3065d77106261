"""One name for one thing in the options of all commands, and how they are made."""

import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer

from rsft.cli import build_app
from rsft.cli.flags import Flags, take_flags
from rsft.cli.options import documented
from rsft.utils.command_options import Argument, Option

MEANINGS = {
    "--ais": "messages",
    "--at": "positions|labels of the objects",
    "--bands": "bands",
    "--bundle": "bundle",
    "--columns": "columns",
    "--count": "number of chips",
    "--crs": "coordinate system",
    "--field": "field of the labels",
    "--html": "HTML page to write",
    "--jobs": "number of (parallel|threads)",
    "--land": "land",
    "--layer": "layer",
    "--lists": "lists|list files",
    "--margin": "margin|added on each side",
    "--min-confidence": "smaller confidence",
    "--min-side": "minimum side",
    "--min-size": "minimum",
    "--out": "to write|folder|table|file",
    "--precision": "fp32, bf16 or int8",
    "--ray": "Ray cluster",
    "--retry": "failed",
    "--root": "chip store",
    "--seed": "seed",
    "--size": "size|side of",
    "--spacing": "pixel spacing in meters",
    "--strict": "exit with status 1",
    "--test": "share of each class",
    "--unit": "unit",
    "--val": "share of each class",
    "--weights": "weights",
}
"""Options with several texts, which say what one thing is in each command -> words that
all of them contain."""

SEVERAL = {
    "--classes": "a data set names its classes, or states how many it has",
    "--data": "TorchGeo calls its folder of files the data of a task as well",
    "--split": "the split of chips, and what is divided between splits",
}
"""Options with more than one meaning, and why."""


def list_options(command: Any, name: str = "") -> list[tuple[str, str, str]]:
    """Return command, option and help of all options."""
    options = []
    for key, member in getattr(command, "commands", {}).items():
        options += list_options(member, f"{name} {key}".strip())
    if not options:
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.help:
                longest = max(parameter.opts, key=len)
                options.append((name, longest, parameter.help))
    return options


@pytest.fixture(scope="module")
def options():
    return list_options(typer.main.get_command(build_app()))


def test_one_help_has_one_name(options):
    names = defaultdict(set)
    for _, option, text in options:
        names[text].add(option)
    assert {text: x for text, x in names.items() if len(x) > 1} == {}


def test_one_name_has_one_meaning(options):
    texts = defaultdict(set)
    for _, option, text in options:
        texts[option].add(text)
    for option, several in texts.items():
        if len(several) > 1 and option not in SEVERAL:
            words = MEANINGS.get(option, "no meaning is listed")
            for text in several:
                assert re.search(words, text, re.IGNORECASE), (option, text)


def test_every_option_has_a_help():
    command: Any = typer.main.get_command(build_app())
    assert all(text for _, _, text in list_options(command))


@dataclass(frozen=True)
class Speed:
    gears: Annotated[int, Option("Number of gears.", min=1)] = 3


@dataclass(frozen=True)
class Toy:
    kind: Annotated[str, Argument("Kind of the toy.")]
    speed: Annotated[Speed | None, Option("It moves.", "--moves")] = None
    colors: Annotated[tuple[str, ...] | None, Option("Colors, with commas.")] = None
    shop: Annotated[Path | Literal["none"], Option("Shop.", metavar="FILE")] = "none"
    secret: int = 1
    overwrite: bool = False


def run_command(*words):
    """Return the arguments with which a command calls its function."""
    calls = []

    def play(
        toy: Toy,
        weights: tuple[float, ...] = (0.5, 1.0),
        day: Annotated[date | None, Option(metavar="DATE")] = None,
        as_json: bool = False,
    ) -> None:
        """Play.

        Args:
            weights: Weights, with commas.
            day: Day of the game.
        """
        calls.append((toy, weights, day, as_json))

    app = typer.Typer(add_completion=False)
    app.command()(documented(play))
    arguments, flags = take_flags(words)
    typer.main.get_command(app).main(arguments, standalone_mode=False, obj=flags)
    return calls[0]


def test_types_say_how_a_text_becomes_a_value():
    assert run_command("car") == (Toy("car"), (0.5, 1.0), None, False)
    words = ["--json", "car", "--moves", "--gears", "5", "--colors", "red, blue"]
    words += ["--shop", "here", "--weights", "1,2", "--day", "2026-12-01"]
    toy = Toy("car", Speed(5), ("red", "blue"), Path("here"), overwrite=True)
    called = run_command(*words, "--overwrite")
    assert called == (toy, (1.0, 2.0), date(2026, 12, 1), True)


def test_values_that_do_not_fit():
    from rsft.errors import RequestError

    with pytest.raises(RequestError, match="--gears only works with --moves"):
        run_command("car", "--gears", "5")
    with pytest.raises(RequestError, match="not a list of numbers"):
        run_command("car", "--weights", "1;2")


def test_flags_stand_anywhere_but_behind_the_end_of_options():
    words, flags = take_flags(["-q", "a", "--json", "--", "--debug"], fenced=True)
    assert words == ["a", "--", "--debug"]
    assert flags == Flags(as_json=True, quiet=True, fenced=True)


def test_a_command_refuses_flags_that_it_does_not_take(rsft):
    code, printed = rsft("recipes", "--json", "ls")
    assert code == 2 and "does not take --json" in printed
    code, printed = rsft("recipes", "ls", "--quiet")
    assert (code, printed) == (0, "")
