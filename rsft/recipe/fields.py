"""What the keys of a recipe are made of: kinds of values with the words for them, and the section."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def unquoted(value: object) -> object:
    """YAML reads an unquoted 12 as a number; where text is wanted it is text."""
    return str(value) if type(value) is int else value


def _text(pattern: str, words: str) -> Any:
    return Field(pattern=pattern, json_schema_extra={"words": words})


Text = Annotated[str, _text(r"^[^\x00]+$", "text that is not empty")]
FolderName = Annotated[
    str,
    BeforeValidator(unquoted),
    _text(r"^[^/\\.\x00-\x1f][^/\\\x00-\x1f]*$", "the name of a folder, without slash or leading dot"),
]
Positions = Annotated[str, BeforeValidator(unquoted), _text("^[qkvo12]+$", "letters of qkvo12")]
BlockRule = Annotated[
    str, _text("^(all|(last|every):[1-9][0-9]*|[0-9]+-[0-9]+)$", "all, last:N, every:N, a range such as 0-5")
]
Counts = Annotated[
    dict[str, Annotated[int, Field(ge=0)]],
    Field(min_length=1, json_schema_extra={"words": "numbers by pattern of sites, such as {blocks.*.q: 8, '*': 4}"}),
]
Shares = Annotated[
    dict[str, Annotated[float, Field(ge=0)]],
    Field(min_length=1, json_schema_extra={"words": "numbers by pattern of sites"}),
]
Expression = Annotated[str, BeforeValidator(unquoted), _text(r"^[\w .+*/()-]+$", "expressions over bands")]


def _rising(pair: list[float]) -> list[float]:
    if pair[0] >= pair[1]:
        raise ValueError("the first limit must be below the second")
    return pair


Pair = Annotated[
    list[float],
    Field(min_length=2, max_length=2, json_schema_extra={"words": "a pair of limits, rising"}),
    AfterValidator(_rising),
]
Pairs = Annotated[list[Pair], Field(min_length=1, json_schema_extra={"words": "a list of such pairs"})]
BlockList = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class Section(BaseModel):
    """A closed set of keys: another key is a fault, and so is a value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @property
    def unneeded(self) -> dict[str, str]:
        """The keys that would do nothing beside the others, each with what is taken instead."""
        return {}
