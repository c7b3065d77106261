"""The kinds of values that recipe keys have, each with its words, and the base of all sections."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def as_text(value: object) -> object:
    """Return a whole number as text, and any other value unchanged.

    YAML reads an unquoted 12 as a number where text is expected.

    Args:
        value: from YAML.

    Returns:
        The text, or the value.
    """
    return str(value) if type(value) is int else value


def as_lower_case(value: object) -> object:
    """Return a text in lower case, and any other value unchanged.

    Args:
        value: from YAML.

    Returns:
        The text, or the value.
    """
    return value.lower() if isinstance(value, str) else value


Unit = Annotated[
    Literal["uint8", "uint16", "amplitude", "intensity", "sigma0", "db", "gamma0", "gamma0_db", "beta0"],
    BeforeValidator(as_lower_case),
]
"""The units of `rsft.data.imagery.units`."""


def _text(pattern: str, words: str) -> Any:
    return Field(pattern=pattern, json_schema_extra={"words": words})


Text = Annotated[str, _text(r"^[^\x00]+$", "text that is not empty")]
FolderName = Annotated[
    str,
    BeforeValidator(as_text),
    _text(r"^[^/\\.\x00-\x1f][^/\\\x00-\x1f]*$", "the name of a folder, without slash or leading dot"),
]
Expression = Annotated[str, BeforeValidator(as_text), _text(r"^[\w .+*/()-]+$", "expressions over bands")]


def _check_rising(pair: list[float]) -> list[float]:
    if pair[0] >= pair[1]:
        raise ValueError("the first limit must be below the second")
    return pair


Pair = Annotated[
    list[float],
    Field(min_length=2, max_length=2, json_schema_extra={"words": "a pair of rising limits"}),
    AfterValidator(_check_rising),
]


def _check_distinct(indices: list[int]) -> list[int]:
    if len(set(indices)) < len(indices):
        raise ValueError("name each block once")
    return indices


BlockIndices = Annotated[
    list[Annotated[int, Field(ge=0)]],
    Field(json_schema_extra={"words": "a list of distinct whole numbers >= 0"}),
    AfterValidator(_check_distinct),
]
Pairs = Annotated[list[Pair], Field(min_length=1, json_schema_extra={"words": "a list of such pairs"})]


class Section(BaseModel):
    """A closed set of keys: an unknown key is a fault, and so is a value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @property
    def unneeded(self) -> dict[str, str]:
        """The keys without an effect beside the others, each with the message for a recipe that sets it."""
        return {}

    @property
    def key_infos(self) -> dict[str, Any]:
        """The pydantic field of every key."""
        return dict(type(self).model_fields)
