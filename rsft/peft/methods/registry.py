"""The registry of PEFT methods.

A method is a frozen dataclass. Its fields are the keys of a recipe's `peft` section, and `build_modules` makes the
modules that it adds to a network. Other packages register methods in the entry-point group "rsft.peft_methods".

Convert PEFT methods to plain data and back.

Descriptions and bounds of the recipe keys of PEFT methods, as metadata of dataclass fields.

Resolve the settings of PEFT methods for every site, and validate them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from rsft.peft.methods.composite import CompositeMethod
from rsft.peft.sites import Site, resolve_per_site
from rsft.utils.registry import Registry, UnknownComponentError

if TYPE_CHECKING:
    from torch import nn

    from rsft.peft.modules.adapter_module import AdapterModule


class Method(Protocol):
    """Configuration of a PEFT method: a frozen dataclass whose fields are recipe keys.

    Declare each field with `dataclasses.field(default=..., metadata=...)`. The metadata may have the keys
    "description", "minimum", "exclusive_minimum", "maximum", "exclusive_maximum", "pattern" and "words" (a description
    of the pattern). The module of the class must not import torch at module level.

    Attributes:
        name: name in recipes.
        title: name in reports.
        is_identity_at_init: whether attaching the method leaves all outputs of the network unchanged.

    Example:
        >>> METHODS["lora"].title
        'LoRA'
    """

    name: ClassVar[str]
    title: ClassVar[str]

    @property
    def is_identity_at_init(self) -> bool:
        """Whether attaching the method leaves all outputs of the network unchanged."""

    def build_modules(self, vit: nn.Module) -> Sequence[AdapterModule]:
        """Build the modules that the method adds to a network.

        Args:
            vit: a timm vision transformer.

        Returns:
            New modules on the device of `vit`, not injected.

        Raises:
            ValueError: the network lacks a site or block, or a setting is invalid.
        """


METHODS: Registry[type[Method]] = Registry("PEFT method", "rsft.peft_methods", "rsft.peft.methods")
"""All PEFT methods by name."""

register = METHODS.register
"""Class decorator that registers a PEFT method under its `name`."""


def method_to_dict(method: Method) -> dict[str, Any]:
    """Return a method as plain data that JSON can hold.

    Args:
        method: the configuration, a dataclass.

    Returns:
        "name" and the fields of the method; the members of a composite under "methods".
    """
    assert is_dataclass(method) and not isinstance(method, type)
    fields = asdict(method)
    if isinstance(method, CompositeMethod):
        fields["methods"] = [method_to_dict(member) for member in method.methods]
    return {"name": method.name, **fields}


def method_from_dict(data: Mapping[str, Any]) -> Method:
    """Build a method from the output of `method_to_dict`.

    Args:
        data: "name" and the fields of the method.

    Returns:
        The method.

    Raises:
        ValueError: the method or a field is unknown.
    """
    fields = dict(data)
    name = fields.pop("name", None)
    if name == CompositeMethod.name:
        return CompositeMethod(tuple(method_from_dict(member) for member in fields.get("methods", ())))
    try:
        return METHODS[name](**fields)
    except UnknownComponentError as error:
        raise ValueError(str(error)) from None
    except TypeError as error:
        raise ValueError(f"method {name}: {error}") from error


def _metadata(description: str, **bounds: Any) -> Mapping[str, Any]:
    return MappingProxyType({"description": description, **bounds})


RANK = _metadata("inner dimension r of low-rank modules (the paper's 4 on DOTA and FUSRS)", minimum=1)
DIM = _metadata("width of the bottleneck of Adapter and AdaptFormer", minimum=1)
POSITION_LETTERS = _metadata(
    "adapted positions of a block: query, key, value, out, MLP 1, MLP 2 (paper, Tables 1 and 2); all takes every "
    "position that a block has, also the convolutions of a ResNet",
    pattern="^([qkvo12]+|all)$",
    words="all, letters of qkvo12",
)
BLOCKS = _metadata(
    "adapted transformer blocks (paper, Table 3)",
    pattern="^(all|(last|every):[1-9][0-9]*|[0-9]+-[0-9]+)$",
    words="all, last:N, every:N, a range such as 0-5",
    minimum=0,
)
SCALE = _metadata(
    "fixed scale of a module's output without a modulator; learnable (AdaptFormer only) trains it, as LIFT does",
    exclusive_minimum=0,
)
ALPHA = _metadata(
    "numerator of the fixed scale alpha / r, as in the authors' code; null takes `scale`", exclusive_minimum=0
)
INIT = _metadata(
    "fan-in of the start of A: width, the input width (Hugging Face), or rank, r (LIFT and the authors' code), which "
    "makes A sqrt(width / r) times larger"
)
ADAPTER_SCALE = _metadata("fixed scale of AdaptFormer in combination with LoRA", exclusive_minimum=0)
PROMPTS = _metadata("number of prompt tokens that VPT inserts before the patch tokens", minimum=1)
DROPOUT = _metadata("dropout rate in a module, in training", minimum=0, exclusive_maximum=1)


PositionSetting = str | Sequence[Literal["q", "k", "v", "out", "mlp1", "mlp2", "conv1", "conv2", "conv3", "downsample"]]
"""Positions of a block: letters of "qkvo12", names, or "all"."""

ScaleSetting = float | Literal["1/r", "learnable"] | Mapping[str, float | Literal["1/r", "learnable"]]
"""Scale m_p without a modulator: a number, "1/r" or "learnable" (AdaptFormer), or pattern of sites -> one of these."""


class LowRankSettings(Protocol):
    """Settings of the low-rank methods, LoRA and LoTR."""

    @property
    def rank(self) -> int | Mapping[str, int]:
        """Inner dimension of the factors."""

    @property
    def positions(self) -> PositionSetting:
        """Adapted positions of a block."""

    @property
    def blocks(self) -> str | Sequence[int]:
        """Adapted blocks."""

    @property
    def scale(self) -> ScaleSetting:
        """Scale without a modulator."""

    @property
    def dropout(self) -> float | Mapping[str, float]:
        """Dropout rate in training."""

    @property
    def alpha(self) -> float | None:
        """Numerator of the scale alpha / r; None takes `scale`."""

    @property
    def init(self) -> Literal["width", "rank"]:
        """Fan-in of the start of A."""


class BottleneckSettings(Protocol):
    """Settings of the bottleneck methods, Adapter and AdaptFormer."""

    @property
    def dim(self) -> int | Mapping[str, int]:
        """Width of the bottleneck."""

    @property
    def blocks(self) -> str | Sequence[int]:
        """Adapted blocks."""

    @property
    def scale(self) -> ScaleSetting:
        """Scale without a modulator."""

    @property
    def dropout(self) -> float | Mapping[str, float]:
        """Dropout rate in training."""


def resolve_scales(
    scale: ScaleSetting, ranks: Mapping[Site, int], alpha: float | None = None
) -> dict[Site, float | None]:
    """Return the constant scale of every site.

    Args:
        scale: the setting. "1/r" means 1 / rank of the site, which is alpha = 1; "learnable" gives None.
        ranks: site -> rank.
        alpha: sets the scale to alpha / rank of the site; None takes `scale`.

    Returns:
        Site -> scale.

    Raises:
        ValueError: the scale is another string.
    """
    if alpha is not None:
        return {site: alpha / rank for site, rank in ranks.items()}
    values: Mapping[Site, float | str] = resolve_per_site(scale, tuple(ranks))
    return {site: _resolve_scale(value, ranks[site]) for site, value in values.items()}


def _resolve_scale(value: float | str, rank: int) -> float | None:
    if value == "learnable":
        return None
    if value == "1/r":
        return 1 / rank
    if isinstance(value, str):
        raise ValueError(f"scale {value!r}: use a number, '1/r' or, in AdaptFormer, 'learnable'")
    return float(value)


def validate_dropout(dropout: float | Mapping[str, float], sites: Sequence[Site]) -> dict[Site, float]:
    """Return the dropout rate of every site.

    Args:
        dropout: one rate, or rates by pattern of sites.
        sites: the sites of the method.

    Returns:
        Site -> rate.

    Raises:
        ValueError: a rate is outside of [0, 1).
    """
    rates = resolve_per_site(dropout, sites)
    for site, rate in rates.items():
        if not 0 <= rate < 1:
            raise ValueError(f"dropout {rate} at {site}: use 0 or more and less than 1")
    return rates


def validate_ranks(rank: int | Mapping[str, int], sites: Sequence[Site]) -> dict[Site, int]:
    """Return the rank of every site that has one.

    Args:
        rank: one rank, or ranks by pattern of sites; 0 excludes a site.
        sites: the sites to choose from.

    Returns:
        Site -> rank of 1 or more.

    Raises:
        ValueError: a rank is negative, or all ranks are 0.
    """
    ranks = {site: value for site, value in resolve_per_site(rank, sites).items() if value}
    if not ranks or min(ranks.values()) < 0:
        raise ValueError(f"rank {rank}: use 1 or more; 0 excludes a site, but at least one site must stay")
    return ranks
