"""Read texts and numbers in the XML files of products."""

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from xml.etree.ElementTree import Element

import numpy as np

from rsft.types import Floats

LIGHT_SPEED = 299_792_458.0
"""Meters per second."""

TiePoint = tuple[float, float, float, float]
"""Row, column, longitude and latitude."""


def read_text(parent: Element, name: str) -> str:
    """Return the text of an element below `parent`; "" without one."""
    return parent.findtext(name, "").strip()


def read_numbers(parent: Element, name: str) -> Floats:
    """Return the numbers in all elements called `name` below `parent`: (N,).

    Raises:
        ValueError: there are none, or one is not finite.
    """
    texts = [element.text or "" for element in parent.findall(name)]
    numbers = np.array(" ".join(texts).split(), np.float64)
    if not numbers.size or not np.isfinite(numbers).all():
        raise ValueError(f"<{parent.tag}> has no {name}, or one that is not finite")
    return numbers


def read_number(parent: Element, name: str) -> float:
    """Return the first number in an element called `name` below `parent`.

    Raises:
        ValueError: there is none, or one is not finite.
    """
    return float(read_numbers(parent, name)[0])


def read_mean_speed(vectors: Iterable[Element], names: Sequence[str]) -> float:
    """Return the mean length of velocities in an orbit; 0 without a velocity.

    Args:
        vectors: elements with a velocity.
        names: names of its three components below them.

    Raises:
        ValueError: a component is missing.
    """
    speeds = []
    for vector in vectors:
        speeds.append(math.hypot(*[read_number(vector, name) for name in names]))
    if not speeds:
        return 0.0
    return float(np.mean(speeds))


def read_seconds(parent: Element, name: str, start: str) -> float:
    """Return the seconds from a time in ISO 8601 to that of an element.

    Raises:
        ValueError: a text is not a time.
    """
    time = datetime.fromisoformat(read_text(parent, name))
    return (time - datetime.fromisoformat(start)).total_seconds()


def read_tie_points(
    points: Iterable[Element], names: Sequence[str], shift: float
) -> tuple[TiePoint, ...]:
    """Return the points of a grid; none unless all state their coordinates.

    Args:
        points: elements of the points.
        names: paths of row, column, longitude and latitude below them.
        shift: added to row and column, so that the center of the first pixel is 0.5.
    """
    tie_points = []
    try:
        for point in points:
            row, col, lon, lat = [read_number(point, name) for name in names]
            tie_points.append((row + shift, col + shift, lon, lat))
    except ValueError:
        return ()
    return tuple(tie_points)
