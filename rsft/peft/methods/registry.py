"""The registry of PEFT methods, their recipe keys, and their form as plain data.

A method is a frozen dataclass. Its fields are the keys of a recipe's `peft` section,
and `build_modules` makes the modules that it adds to a network. Other packages register
methods in the entry-point group "rsft.peft_methods".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from rsft.utils.registry import Registry, UnknownComponentError

if TYPE_CHECKING:
    from torch import nn

    from rsft.peft.modules.adapter_module import AdapterModule


class Method(Protocol):
    """Configuration of a PEFT method: a frozen dataclass whose fields are recipe keys.

    Declare each field with `dataclasses.field(default=..., metadata=...)`. The metadata
    may have the keys "description", "minimum", "exclusive_minimum", "maximum",
    "exclusive_maximum", "pattern" and "words" (a description of the pattern). The
    module of the class must not import torch at module level.

    Attributes:
        name: name in recipes.
        title: name in reports.
        is_identity_at_init: whether attaching the method leaves all outputs of the
            network unchanged.

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


METHODS: Registry[type[Method]] = Registry(
    "PEFT method", "rsft.peft_methods", "rsft.peft.methods"
)
"""All PEFT methods by name."""

register = METHODS.register
"""Class decorator that registers a PEFT method under its `name`."""


@dataclass(frozen=True)
class CompositeMethod:
    """Any combination of methods that share no site and train no parameter in common.

    Use it from Python. A recipe can only name one registered method.

    Attributes:
        methods: the members, such as (LoRA(positions="qv"), AdaptFormer(dim=4)).

    Example:
        >>> from rsft.peft import AdaptFormer, LoRA
        >>> method = CompositeMethod((LoRA(positions="qv"), AdaptFormer(dim=4)))
        >>> method.is_identity_at_init
        True
    """

    name: ClassVar[str] = "together"
    title: ClassVar[str] = "Composite"

    methods: tuple[Method, ...] = ()

    @property
    def is_identity_at_init(self) -> bool:
        """Whether attaching all members leaves the outputs of the network unchanged."""
        return all(method.is_identity_at_init for method in self.methods)

    def build_modules(self, vit: nn.Module) -> list[AdapterModule]:
        """Build the modules of all members."""
        return [
            module for method in self.methods for module in method.build_modules(vit)
        ]


def method_to_dict(method: Method) -> dict[str, Any]:
    """Return a method, a dataclass, as plain data that JSON can hold.

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

    Raises:
        ValueError: the method or a field is unknown.
    """
    fields = dict(data)
    name = fields.pop("name", None)
    if name == CompositeMethod.name:
        return CompositeMethod(
            tuple(method_from_dict(member) for member in fields.get("methods", ()))
        )
    try:
        return METHODS[name](**fields)
    except UnknownComponentError as error:
        raise ValueError(str(error)) from None
    except TypeError as error:
        raise ValueError(f"method {name}: {error}") from error


def _metadata(description: str, **bounds: Any) -> Mapping[str, Any]:
    return MappingProxyType({"description": description, **bounds})


RANK = _metadata(
    "inner dimension r of low-rank modules (the paper's 4 on DOTA and FUSRS)", minimum=1
)
DIM = _metadata("width of the bottleneck of Adapter and AdaptFormer", minimum=1)
POSITION_LETTERS = _metadata(
    "adapted positions of a block: query, key, value, out, MLP 1, MLP 2 (paper, Tables"
    " 1 and 2); all takes every position that a block has, also the convolutions of a"
    " ResNet",
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
    "fixed scale of a module's output without a modulator; learnable (AdaptFormer only)"
    " trains it, as LIFT does",
    exclusive_minimum=0,
)
ALPHA = _metadata(
    "numerator of the fixed scale alpha / r, as in the authors' code; null takes"
    " `scale`",
    exclusive_minimum=0,
)
INIT = _metadata(
    "fan-in of the start of A: width, the input width (Hugging Face), or rank, r (LIFT"
    " and the authors' code), which makes A sqrt(width / r) times larger"
)
OUT_INSERTION = _metadata(
    "input of the module at the position Out: that of the output projection (parallel;"
    " Hugging Face), or what the projection gives (sequential; the authors' code)"
)
MODULATOR = _metadata(
    "what the section meta learns at a site: one scale (site; the paper), or one factor"
    " for every output feature (feature; Adapter and AdaptFormer of the authors' code)"
)
ADAPTER_SCALE = _metadata(
    "fixed scale of AdaptFormer in combination with LoRA", exclusive_minimum=0
)
PROMPTS = _metadata(
    "number of prompt tokens that VPT inserts before the patch tokens", minimum=1
)
DROPOUT = _metadata(
    "dropout rate in a module, in training", minimum=0, exclusive_maximum=1
)
