"""Bands by name, and planes: what the network sees, each an expression over bands."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from rsft.errors import RequestError
from rsft.types import Pixels, Plane

POLARIZATIONS = ("VV", "VH", "HH", "HV")
SENTINEL2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
BANDS = ("gray", "R", "G", "B", *POLARIZATIONS, *SENTINEL2)
"""Every name a band may have: pictures, SAR polarisations, Sentinel-2."""

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_HELP = "write a band's name, or names and numbers with + - * / ( ), for instance VV - VH"


def check_bands(names: Sequence[str]) -> None:
    """Whether `names` name bands, each once.

    Raises:
        RequestError: one does not.
    """
    for name in names:
        if name not in BANDS or list(names).count(name) > 1:
            fault = "comes twice" if name in BANDS else "is no band"
            raise RequestError(f"{name} {fault}", "--bands", f"choose of {', '.join(BANDS)}")


def required_bands(expression: str) -> set[str]:
    """The names of the bands that an expression needs.

    Raises:
        RequestError: it is no expression over bands.
    """
    return {node.id for node in ast.walk(_parse(expression)) if isinstance(node, ast.Name)}


def check_planes(planes: Sequence[str], bands: Sequence[str]) -> None:
    """Whether every plane can be computed from `bands`.

    Raises:
        RequestError: one cannot.
    """
    for plane in planes:
        missing = sorted(required_bands(plane) - set(bands))
        if missing:
            raise RequestError(
                f"the chips have no band {', '.join(missing)}",
                f"data.bands, {plane!r}",
                f"they have {', '.join(bands)}",
            )


def compute_planes(pixels: Pixels, bands: Sequence[str], planes: Sequence[str]) -> list[Plane]:
    """(H, W, B) with named bands -> one (H, W) a plane; computed ones are float32, where / 0 gives no number.

    Raises:
        RequestError: an expression that is none, or needs another band.
    """
    check_planes(planes, bands)
    known = {name: pixels[:, :, index] for index, name in enumerate(bands)}
    with np.errstate(divide="ignore", invalid="ignore"):
        return [_compute(_parse(plane), known) for plane in planes]


@lru_cache(maxsize=256)
def _parse(expression: str) -> ast.expr:
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise RequestError(f"{expression!r} is no expression over bands", "data.bands", _HELP) from error
    _check(tree, expression)
    return tree


def _check(node: ast.expr, expression: str) -> None:
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        _check(node.left, expression)
        _check(node.right, expression)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        _check(node.operand, expression)
    elif not (isinstance(node, ast.Name) or (isinstance(node, ast.Constant) and type(node.value) in (int, float))):
        raise RequestError(f"{expression!r} is no expression over bands", "data.bands", _HELP)


def _compute(node: ast.expr, known: dict[str, Plane]) -> Any:
    if isinstance(node, ast.Name):
        return known[node.id]
    if isinstance(node, ast.Constant):
        return np.float32(node.value)  # type: ignore[arg-type]  # `_check` let numbers through alone
    if isinstance(node, ast.UnaryOp):
        return -_float(_compute(node.operand, known))
    assert isinstance(node, ast.BinOp)
    return _OPERATORS[type(node.op)](_float(_compute(node.left, known)), _float(_compute(node.right, known)))


def _float(value: Any) -> Any:
    return value.astype(np.float32)  # bytes would wrap around
