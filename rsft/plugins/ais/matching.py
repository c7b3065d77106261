"""Assign detected objects to ships, one to one, and say how sure each pair is.

For an object i and a ship j, the score is the logarithm of a ratio of probabilities:
that the object is this ship, to that it is any other object,

    score = log t(distance; covariance of the ship) - log density + length + heading.

t is the bivariate Student distribution with 4 degrees of freedom, because a ship that
turned between two messages is further away than a normal distribution allows. The
density is the number of objects per square meter, in the scene or, if it is larger,
within 3 km of the object. Length and heading add log ratios of normal distributions,
which are limited so that neither can decide alone. Pairs beyond 6 sigma, or with a
negative score, are not possible.

The assignment with the largest total score is found by
`scipy.optimize.linear_sum_assignment`, group by group of objects and ships that are
connected by possible pairs. The confidence of a pair is 1 / (1 + exp(-margin)), where
the margin is what the total loses if this pair is forbidden. It is an approximation to
the probability of the pair.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from rsft.plugins.ais.displacement import RadarView
from rsft.plugins.ais.units import EARTH
from rsft.types import Floats

GATE = 6.0
"""Largest distance of a possible pair in standard deviations."""

_FREEDOM = 4.0
_NEIGHBORHOOD = 3000.0  # meters
_EARTH_RADIUS = 6.4e6  # meters, rounded up
_LENGTH_SIGMA = 0.3  # of the logarithm of the measured lengths of a ship
_ALL_LENGTHS_SIGMA = 0.8  # of the logarithm of the lengths of all ships
_HEADING_SIGMA = 20.0  # degrees
_LEAST_EVIDENCE = -4.0  # lower limit of the terms of length and of heading


class Objects(NamedTuple):
    """Detected objects; arrays (N,).

    Lengths are in meters, headings in degrees from 0 to 180; NaN if unknown.
    """

    lon: Floats
    lat: Floats
    length: Floats
    heading: Floats


class Pairs(NamedTuple):
    """Possible pairs; arrays (P,).

    Attributes:
        objects, ships: indices.
        score: see the module.
        distance: meters.
        sigmas: distance in standard deviations.
    """

    objects: Any
    ships: Any
    score: Floats
    distance: Floats
    sigmas: Floats


class Assignment(NamedTuple):
    """The best pairs.

    Attributes:
        ship: index of the ship of each object (N,); -1 without one.
        pair: index in `Pairs` of this pair (N,); -1 without one.
        confidence: confidence of this pair (N,); 0 without one.
    """

    ship: Any
    pair: Any
    confidence: Floats


def find_pairs(
    objects: Objects, view: RadarView, length: Floats, heading: Floats, area: float
) -> Pairs:
    """Find all possible pairs.

    Args:
        objects: the objects.
        view: where the radar shows the ships.
        length: lengths of the ships in meters; NaN if unknown.
        heading: headings of the ships in degrees; NaN if unknown.
        area: area of the scene in square meters.

    Returns:
        The pairs within the gate whose score is positive.
    """
    tree = cKDTree(_vectors(objects.lon, objects.lat))
    reach = GATE * np.maximum(view.along, view.across)
    near = tree.query_ball_point(_vectors(view.lon, view.lat), reach)
    i: Any = np.array([*chain.from_iterable(near)], int)
    j: Any = np.repeat(np.arange(len(near)), [len(rows) for rows in near])
    azimuth, _, meters = map(
        np.asarray, EARTH.inv(view.lon[j], view.lat[j], objects.lon[i], objects.lat[i])
    )
    angle = np.radians(azimuth - view.flight[j])
    along = view.along[j]
    across = view.across[j]
    sigmas = np.hypot(meters * np.cos(angle) / along, meters * np.sin(angle) / across)
    others = tree.query_ball_point(tree.data, _NEIGHBORHOOD, return_length=True) - 1
    scene_density = max(len(others), 1) / area
    density = np.maximum(others / (np.pi * _NEIGHBORHOOD**2), scene_density)
    score = -(_FREEDOM + 2) / 2 * np.log1p(sigmas**2 / _FREEDOM)
    score -= np.log(2 * np.pi * along * across * density[i])
    ratio = np.log(objects.length[i] / length[j]) / _LENGTH_SIGMA
    score += _evidence(ratio, np.log(_ALL_LENGTHS_SIGMA / _LENGTH_SIGMA))
    turn = np.abs((objects.heading[i] - heading[j] + 90) % 180 - 90) / _HEADING_SIGMA
    score += _evidence(turn, np.log(180 / (_HEADING_SIGMA * np.sqrt(2 * np.pi))))
    is_possible = (sigmas <= GATE) & (score > 0)
    return Pairs(*(column[is_possible] for column in (i, j, score, meters, sigmas)))


def _vectors(lon: Floats, lat: Floats) -> Floats:
    """Return points on a sphere (N, 3) in meters.

    Their distances are those on the Earth or a little more.
    """
    east = np.radians(lon)
    north = np.radians(lat)
    radius = np.cos(north)
    return _EARTH_RADIUS * np.column_stack(
        [radius * np.cos(east), radius * np.sin(east), np.sin(north)]
    )


def _evidence(deviation: Floats, gain: float) -> Floats:
    """Return the log ratio of a deviation in sigmas; 0 if it is unknown."""
    return np.nan_to_num(np.maximum(gain - deviation**2 / 2, _LEAST_EVIDENCE))


def assign(pairs: Pairs, count: int) -> Assignment:
    """Choose pairs one to one so that the sum of their scores is largest.

    Args:
        pairs: the possible pairs.
        count: number of objects N.
    """
    ship, pair = np.full((2, count), -1)
    best = Assignment(ship, pair, np.zeros(count))
    for group in _connect(pairs, count):
        scores, numbers = _matrix(pairs, group)
        objects = np.unique(pairs.objects[group])
        rows = np.arange(len(objects))
        columns = _solve(scores)
        total = scores[rows, columns].sum()
        best.pair[objects] = numbers[rows, columns]
        for row in np.flatnonzero(best.pair[objects] >= 0):
            allowed = scores.copy()
            allowed[row, columns[row]] = -np.inf
            margin = total - allowed[rows, _solve(allowed)].sum()
            best.confidence[objects[row]] = 1 / (1 + np.exp(-margin))
    has_ship = best.pair >= 0
    best.ship[has_ship] = pairs.ships[best.pair[has_ship]]
    return best


def _connect(pairs: Pairs, count: int) -> Iterator[Any]:
    """Yield the numbers of the pairs of each group of connected objects and ships."""
    total = count + int(pairs.ships.max(initial=-1)) + 1
    ends = (pairs.objects, count + pairs.ships)
    edges = coo_array((np.ones(len(pairs.ships)), ends), shape=(total, total))
    labels = connected_components(edges, directed=False)[1][pairs.objects]
    for label in np.unique(labels):
        yield np.flatnonzero(labels == label)


def _matrix(pairs: Pairs, group: Any) -> tuple[Floats, Any]:
    """Return the scores (N, S + N) of a group, and the number of each pair or -1.

    The last columns mean no ship.
    """
    rows, i = np.unique(pairs.objects[group], return_inverse=True)
    columns, j = np.unique(pairs.ships[group], return_inverse=True)
    scores = np.full((len(rows), len(columns) + len(rows)), -np.inf)
    numbers = np.full(scores.shape, -1)
    scores[i, j] = pairs.score[group]
    numbers[i, j] = group
    scores[np.arange(len(rows)), len(columns) + np.arange(len(rows))] = 0
    return scores, numbers


def _solve(scores: Floats) -> Any:
    """Return the column of each row; scores of -inf are forbidden."""
    return linear_sum_assignment(np.where(np.isfinite(scores), -scores, 1e6))[1]
