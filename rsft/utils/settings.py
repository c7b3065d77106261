"""Describe a setting of a component in the type of its field.

A component is a frozen dataclass, and each of its fields is a key of a recipe:

    tau: Annotated[float, Setting("weight of the class prior", ge=0)] = 1.0
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """What recipes, help and error messages say of a setting, and what it accepts.

    Attributes:
        help: what the setting does.
        ge: limit of numbers, as in the fields of pydantic; `gt` and `lt` as well.
        pattern: regular expression of text.
        words: the allowed text in words.
    """

    help: str = ""
    ge: float | None = None
    gt: float | None = None
    lt: float | None = None
    pattern: str | None = None
    words: str = "text"
