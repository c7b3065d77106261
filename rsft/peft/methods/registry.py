"""The registry of PEFT methods.

A method is a frozen dataclass. Its fields are the keys of a recipe's `peft` section, and `build_modules` makes the
modules that it adds to a network. Other packages register methods in the entry-point group "rsft.peft_methods".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from rsft.utils.registry import Registry

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
