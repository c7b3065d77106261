"""Options that the fields of a dataclass describe."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from rsft.utils.command_options import Access, Option, option_values


@dataclass(frozen=True)
class Inner:
    """Options of a part."""

    rate: Annotated[float, Option("rate", "--learning-rate")] = 0.5


@dataclass(frozen=True)
class Outer:
    """Options of a command."""

    plain: Annotated[int, Option("plain")] = 3
    hidden: int = 4
    inner: Inner = field(default_factory=Inner)
    sources: Annotated[dict[str, Path], Option(each=lambda: {"ais": "messages"})] = (
        field(default_factory=dict)
    )


def test_values_by_the_names_of_their_options():
    assert option_values(Outer()) == {"plain": 3, "learning_rate": 0.5}


def test_a_mapping_has_one_option_for_each_name():
    values = option_values(Outer(plain=1, sources={"ais": Path("x.csv")}))
    assert values == {"plain": 1, "learning_rate": 0.5, "ais": Path("x.csv")}


def test_files_are_read_unless_an_option_says_otherwise():
    assert Option("x").access is Access.READ
    both = Access.READ | Access.WRITE
    assert Access.READ in both and Access.OBJECTS not in both
