"""The registry: a method is a frozen dataclass that says what it needs and makes the parts of an adapted network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, ClassVar, Protocol, TypeVar, cast

from torch import nn

from rsft.peft.methods.adapter_module import Part
from rsft.peft.sites import Site, at_each


class Method(Protocol):
    """A way to tune a network with few parameters. Its fields are the keys of a recipe's `peft` section."""

    name: ClassVar[str]

    def parts(self, vit: nn.Module) -> Sequence[Part]:
        """New parts for a network, on its device, not installed.

        Raises:
            ValueError: a site, block or setting that the network does not have.
        """


METHODS: dict[str, type[Method]] = {}
"""Every known method by name."""

M = TypeVar("M", bound=type[Method])


def register(method: M) -> M:
    """Class decorator: make a method known under its `name`.

    Raises:
        ValueError: the name is taken.
    """
    if method.name in METHODS:
        raise ValueError(f"a method named {method.name!r} is registered already")
    METHODS[method.name] = method
    return method


def describe(method: Method) -> dict[str, Any]:
    """A method as plain data: its name and its fields."""
    assert is_dataclass(method) and not isinstance(method, type)
    fields = asdict(method)
    if "methods" in fields:
        fields["methods"] = [describe(each) for each in cast(Any, method).methods]
    return {"name": method.name, **fields}


def rebuild(description: Mapping[str, Any]) -> Method:
    """The method that `describe` described.

    Raises:
        ValueError: no such method, or fields that it does not have.
    """
    fields = dict(description)
    name = fields.pop("name", None)
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}; there are {', '.join(METHODS)}")
    if "methods" in fields:
        fields["methods"] = tuple(rebuild(each) for each in fields["methods"])
    try:
        return METHODS[name](**fields)
    except TypeError as error:
        raise ValueError(f"method {name}: {error}") from error


Scales = float | str | Mapping[str, float | str]
"""m_p without a modulator: a number, "1/r", or either by pattern."""


def fixed_scales(scale: Scales, ranks: Mapping[Site, int]) -> dict[Site, float | None]:
    """The constant m_p of every site; "1/r" divides by its rank, as alpha = 1 does, "learnable" is None.

    Raises:
        ValueError: a word that is neither.
    """
    values: Mapping[Site, float | str] = at_each(scale, tuple(ranks))
    return {site: _fixed_scale(value, ranks[site]) for site, value in values.items()}


def _fixed_scale(value: float | str, rank: int) -> float | None:
    if value == "learnable":
        return None
    if value == "1/r":
        return 1 / rank
    if isinstance(value, str):
        raise ValueError(f"scale {value!r}: use a number, '1/r' or, in AdaptFormer, 'learnable'")
    return float(value)


def checked_rates(dropout: float | Mapping[str, float], sites: Sequence[Site]) -> dict[Site, float]:
    """The dropout of every site.

    Raises:
        ValueError: a rate outside of [0, 1).
    """
    rates = at_each(dropout, sites)
    for site, rate in rates.items():
        if not 0 <= rate < 1:
            raise ValueError(f"dropout {rate} at {site}: use 0 or more and less than 1")
    return rates


def checked_ranks(rank: int | Mapping[str, int], sites: Sequence[Site]) -> dict[Site, int]:
    """The rank of every site that has one: 0 leaves a site out.

    Raises:
        ValueError: a negative rank, or no site left.
    """
    ranks = {site: value for site, value in at_each(rank, sites).items() if value}
    if not ranks or min(ranks.values()) < 0:
        raise ValueError(f"rank {rank}: use 1 or more (0 leaves a site out, not all of them)")
    return ranks
