"""The registry of PEFT methods, their recipe keys, and their form as plain data.

A method is a frozen dataclass. Its fields are the keys of a recipe's `peft` section,
and `build_modules` makes the modules that it adds to a network. Other packages register
methods in the entry-point group "rsft.peft_methods".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from rsft.types import JsonObject
from rsft.utils.registry import Registry, UnknownComponentError

if TYPE_CHECKING:
    from torch import nn

    from rsft.peft.modules.adapter_module import AdapterModule


class Method(Protocol):
    """Configuration of a PEFT method: a frozen dataclass whose fields are recipe keys.

    The type of each field has a `rsft.utils.settings.Setting`, which describes it. The
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


def packages_of(method: Method) -> dict[str, str]:
    """Return version and hash of the packages whose code a method runs, by name.

    A method may have them as its property `packages`.
    """
    return dict(getattr(method, "packages", {}))


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

    name: ClassVar = "together"
    title: ClassVar = "Composite"

    methods: tuple[Method, ...] = ()

    @property
    def is_identity_at_init(self) -> bool:
        """Whether attaching all members leaves the outputs of the network unchanged."""
        return all(method.is_identity_at_init for method in self.methods)

    def build_modules(self, vit: nn.Module) -> list[AdapterModule]:
        """Build the modules of all members."""
        modules = (method.build_modules(vit) for method in self.methods)
        return list(chain.from_iterable(modules))


def method_to_dict(method: Method) -> JsonObject:
    """Return a method, a dataclass, as plain data that JSON can hold.

    Returns:
        "name" and the fields of the method; the members of a composite under "methods".
    """
    fields = asdict(cast(Any, method))  # a dataclass, which no protocol can say
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
