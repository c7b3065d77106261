"""One name for one thing in the options of all commands, and how they are made."""

import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from rsft.cli import build_app
from rsft.cli.flags import Flags, take_flags
from rsft.cli.options import documented
from rsft.utils.command_options import Argument, Option

MEANINGS = {
    "--ais": "messages",
    "--at": "positions|labels of the objects",
    "--backbone": "encoder",
    "--bands": "bands",
    "--bundle": "bundle",
    "--chips": "folder",
    "--columns": "columns",
    "--count": "number of chips",
    "--crs": "coordinate system",
    "--field": "field of the labels",
    "--html": "HTML page to write",
    "--jobs": "number of (parallel|threads)",
    "--land": "land",
    "--layer": "layer",
    "--license": "license of the",
    "--lists": "lists|list files",
    "--margin": "margin|added on each side",
    "--min-confidence": "smaller confidence",
    "--min-side": "minimum side",
    "--min-size": "minimum",
    "--out": "to write|folder|table|file",
    "--precision": "fp32, bf16 or int8",
    "--ray": "Ray cluster",
    "--runs": "folder of (all|the) runs",
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
    "--key": "a private key signs, and its public key verifies",
    "--data": "TorchGeo calls its folder of files the data of a task as well",
    "--split": "the split of chips, and what is divided between splits",
}
"""Options with more than one meaning, and why."""


RELATED = {
    ("--batch-size", "--count"): "chips at a time, and chips in all",
    ("--count", "--jobs"): "chips, and processes that read chips",
    ("--data", "--root"): "a store that exists, and one to create",
    ("--html", "--out"): "a second output, and the main one",
    ("--input-size", "--size"): "the side of an input, and that of chips in scenes",
    ("--mean", "--std"): "two moments of one input",
    ("--resample-to", "--spacing"): "the spacing of chips, and that of the file",
    ("--test", "--val"): "the shares of two splits",
}
"""Pairs of options with the same type and similar words, and how they differ."""

SIMILAR = 0.5
"""Share of common words from which two helps have the same meaning."""

STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be been by default do does else for from get gives has have if"
        " in into is it its no none not of on only or other same such than that the their"
        " them then there these they this to was were where which with without you your"
        " must may can",
    )
)


@dataclass(frozen=True)
class CommandOption:
    """An option of a command."""

    command: str
    name: str
    help: str
    kind: str

    @property
    def words(self):
        """The words of the first sentence that carry meaning, without plurals and
        parentheses."""
        sentence = re.split(r"[.:;](?:\s|$)", re.sub(r"\([^)]*\)", "", self.help))[0]
        words = set(re.findall(r"[a-z]+", sentence.lower())) - STOP_WORDS
        return {word.rstrip("s") for word in words}

    def means(self, other):
        """Whether both have one type and mostly the same words."""
        if self.kind != other.kind or not self.words | other.words:
            return False
        common = len(self.words & other.words)
        return common >= SIMILAR * len(self.words | other.words)


def list_options(command: Any, name: str = "") -> list[CommandOption]:
    """Return the options of all commands."""
    options = []
    for key, member in getattr(command, "commands", {}).items():
        options += list_options(member, f"{name} {key}".strip())
    if not options:
        for parameter in command.params:
            if parameter.param_type_name == "option":
                longest = max(parameter.opts, key=len)
                kind = str(parameter.type_descriptor.annotation)
                option = CommandOption(name, longest, parameter.help, kind)
                options.append(option)
    return options


@pytest.fixture(scope="module")
def options():
    return list_options(typer.main.get_command(build_app()))


def test_one_help_has_one_name(options):
    names = defaultdict(set)
    for option in options:
        names[option.help].add(option.name)
    assert {text: x for text, x in names.items() if len(x) > 1} == {}


def test_one_type_and_meaning_has_one_name(options):
    alike = {
        tuple(sorted((first.name, second.name)))
        for first, second in combinations(options, 2)
        if first.name != second.name and first.means(second)
    }
    assert alike <= set(RELATED)


def test_one_name_has_one_meaning(options):
    texts = defaultdict(set)
    for option in options:
        texts[option.name].add(option.help)
    for name, several in texts.items():
        if len(several) > 1 and name not in SEVERAL:
            words = MEANINGS.get(name, "no meaning is listed")
            for text in several:
                assert re.search(words, text, re.IGNORECASE), (name, text)


def test_every_option_has_a_help(options):
    assert all(option.help for option in options)


@dataclass(frozen=True)
class Speed:
    gears: Annotated[int, Option("Number of gears.", min=1)] = 3


@dataclass(frozen=True)
class Toy:
    kind: Annotated[str, Argument("Kind of the toy.")]
    speed: Annotated[Speed | None, Option("It moves.", "--moves")] = None
    colors: Annotated[tuple[str, ...] | None, Option("Colors, with commas.")] = None
    shop: Annotated[Path | None, Option("Shop.", metavar="FILE", parse=Path)] = None
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
    words, flags = take_flags(["-q", "a", "--json", "--", "--debug"], uses_cell=True)
    assert words == ["a", "--", "--debug"]
    assert flags == Flags(as_json=True, quiet=True, uses_cell=True)


def test_a_command_refuses_flags_that_it_does_not_take(rsft):
    code, printed = rsft("recipes", "--json", "ls")
    assert code == 2 and "does not take --json" in printed
    code, printed = rsft("recipes", "ls", "--quiet")
    assert (code, printed) == (0, "")
