"""Convert PEFT methods to plain data and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

from rsft.peft.methods.composite import CompositeMethod
from rsft.peft.methods.registry import METHODS, Method
from rsft.utils.registry import UnknownComponentError

if TYPE_CHECKING:
    pass


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
