"""Names of bands, and planes, which are expressions over bands."""

import ast
import operator
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from rsft.errors import RequestError
from rsft.types import Pixels, Plane
from rsft.utils.array_namespace import array_namespace, to_float

POLARIZATIONS = ("VV", "VH", "HH", "HV")
SENTINEL2 = (
    "B01",
    "B02",
    "B03",
    "B04",
    "B05",
    "B06",
    "B07",
    "B08",
    "B8A",
    "B09",
    "B10",
    "B11",
    "B12",
)
BANDS = ("gray", "R", "G", "B", *POLARIZATIONS, *SENTINEL2)
"""All band names: photographs, SAR polarizations, Sentinel-2."""

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_HINT = (
    "write the name of a band, or an expression of names, numbers and + - * / ( ), for"
    " instance VV - VH"
)


def check_bands(names: Sequence[str]) -> None:
    """Raise an error unless all names are band names and none is repeated.

    Raises:
        RequestError: a name is unknown or repeated.
    """
    for name in names:
        if name not in BANDS or list(names).count(name) > 1:
            fault = "occurs twice" if name in BANDS else "is not a band"
            raise RequestError(
                f"{name} {fault}", "--bands", f"choose from {', '.join(BANDS)}"
            )


def is_gray_rgb(pixels: Pixels) -> bool:
    """Tell whether an image (H, W, B) is a gray one that was stored as RGB."""
    return pixels.shape[2] == 3 and bool((pixels == pixels[:, :, :1]).all())


@lru_cache(maxsize=256)  # asked for every chip
def required_bands(expression: str) -> frozenset[str]:
    """Return the band names in the expression of a plane, such as "VV - VH".

    Returns:
        Names of the bands.

    Raises:
        RequestError: the expression is not valid.

    Example:
        >>> sorted(required_bands("(B08 - B04) / (B08 + B04)"))
        ['B04', 'B08']
    """
    nodes = ast.walk(_parse(expression))
    return frozenset(node.id for node in nodes if isinstance(node, ast.Name))


def check_planes(planes: Sequence[str], bands: Sequence[str]) -> None:
    """Raise an error unless every plane can be computed from `bands`.

    Raises:
        RequestError: an expression is not valid, or needs a missing band.
    """
    for plane in planes:
        missing = sorted(required_bands(plane) - set(bands))
        if missing:
            raise RequestError(
                f"the chips have no band {', '.join(missing)}",
                f"data.bands, {plane!r}",
                f"they have {', '.join(bands)}",
            )


def compute_planes(
    pixels: Pixels, bands: Sequence[str], planes: Sequence[str]
) -> list[Plane]:
    """Compute planes from the bands of a chip.

    Args:
        pixels: the chip (H, W, B), or chips (N, H, W, B); an array or a tensor.
        bands: names of its bands.
        planes: expressions over bands.

    Returns:
        One array (H, W) or (N, H, W) per plane. A plane that is one band keeps its data
        type; others are float32. Division by zero gives NaN or infinity.

    Raises:
        RequestError: an expression is not valid, or needs a missing band.
    """
    check_planes(planes, bands)
    by_name = {name: pixels[..., index] for index, name in enumerate(bands)}
    with np.errstate(divide="ignore", invalid="ignore"):
        arrays = [_compute(_parse(plane), by_name) for plane in planes]
    band = pixels[..., 0]
    library = array_namespace(pixels)
    computed = []
    for array in arrays:
        if not array.ndim:  # an expression of numbers alone, such as "2"
            array = library.full_like(band, float(array), dtype=library.float32)
        computed.append(array)
    return computed


@lru_cache(maxsize=256)
def _parse(expression: str) -> ast.expr:
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise _syntax_error(expression) from error
    _check(tree, expression)
    return tree


def _syntax_error(expression: str, fault: str = "") -> RequestError:
    return RequestError(
        f"{expression!r} is not an expression over bands{fault}", "data.bands", _HINT
    )


def _check(node: ast.expr, expression: str) -> None:
    """Raise an error if the tree contains anything but names, numbers and + - * /."""
    match node:
        case ast.Name():
            return
        case ast.BinOp(left=left, right=right) if type(node.op) in _OPERATORS:
            _check(left, expression)
            _check(right, expression)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            _check(operand, expression)
        case ast.Constant(value=bool()):
            raise _syntax_error(expression)
        case ast.Constant(value=int() | float() as value):
            if abs(value) > float(np.finfo(np.float32).max):
                raise _syntax_error(
                    expression, f": {value:g} does not fit into float32"
                )
        case _:
            raise _syntax_error(expression)


def _compute(node: ast.expr, by_name: dict[str, Plane]) -> Any:
    """Compute a checked expression, in floats: arithmetic on bytes would overflow."""
    if isinstance(node, ast.Name):
        return by_name[node.id]
    if isinstance(node, ast.Constant):
        number: Any = node.value
        return np.float32(number)
    if isinstance(node, ast.UnaryOp):
        return -to_float(_compute(node.operand, by_name))
    assert isinstance(node, ast.BinOp)
    left = to_float(_compute(node.left, by_name))
    right = to_float(_compute(node.right, by_name))
    return _OPERATORS[type(node.op)](left, right)
