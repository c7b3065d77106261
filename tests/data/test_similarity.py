"""Copies of chips: turned, mirrored and encoded again. Different chips are not joined,
on real data either."""

import cv2
import numpy as np
import pytest

from rsft.data.imagery.reader import read_chip
from rsft.data.similarity import (
    find_near_hashes,
    find_similar,
    hash_similarity,
    make_thumbnail,
    orientations,
    symmetric_digest,
)


def chip(seed, shape=(48, 64, 1)):
    """Gamma speckle around a bright bar."""
    rng = np.random.default_rng(seed)
    image = rng.gamma(4, 8, shape)
    top, left = rng.integers(8, 30, 2)
    image[top : top + 5, left : left + 30] += 120
    return np.clip(image, 0, 255).astype(np.uint8)


def similar_pairs(chips, groups=None):
    hashes = [hash_similarity(pixels) for pixels in chips]
    groups = range(len(chips)) if groups is None else groups
    return sorted(find_similar(hashes, groups, lambda row: make_thumbnail(chips[row])))


def test_the_digest_ignores_the_symmetries_of_the_square():
    views = orientations(chip(0))
    assert len({view.tobytes() + bytes(view.shape) for view in views}) == 8
    assert len({symmetric_digest(view) for view in views}) == 1
    changed = chip(0)
    changed[3, 5] ^= 1
    assert (
        symmetric_digest(changed)
        != symmetric_digest(chip(0))
        != symmetric_digest(chip(0).astype(np.uint16))
    )
    real = chip(0).astype(np.float32) - 7
    assert len({symmetric_digest(view) for view in orientations(real)}) == 1


def test_the_eight_views_of_a_chip_are_similar():
    views = orientations(chip(1))
    assert len(similar_pairs(views)) == 28
    assert similar_pairs(views, groups=[0] * 8) == []
    assert similar_pairs([chip(seed) for seed in range(12)]) == []


@pytest.mark.parametrize("quality", [90, 75])
def test_turned_copies_survive_jpeg(quality):
    chips = [chip(seed, (128, 128, 1)) for seed in range(8)]
    for seed, pixels in enumerate(chips[:8]):
        view = np.ascontiguousarray(orientations(pixels)[seed])
        data = cv2.imencode(".jpg", view, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        chips.append(np.atleast_3d(cv2.imdecode(data, cv2.IMREAD_UNCHANGED)))
    assert similar_pairs(chips) == [(seed, seed + 8) for seed in range(8)]


def test_constant_chips_and_missing_values():
    flat = np.full((20, 20, 1), 7, np.uint8)
    holes = chip(2).astype(np.float32)
    holes[:9, :9] = np.nan
    assert (
        hash_similarity(flat) == 0 and similar_pairs([flat, flat.copy(), chip(2)]) == []
    )
    assert np.isfinite(make_thumbnail(holes)).all()
    assert similar_pairs([holes, np.rot90(holes, 3)]) == [(0, 1)]


def test_near_hashes_equal_brute_force():
    rng = np.random.default_rng(0)
    hashes = [hash_similarity(chip(seed)) for seed in range(20)]
    views = [
        hash_similarity(np.ascontiguousarray(view))
        for seed in range(20)
        for view in orientations(chip(seed))
    ]
    for value in views[::3]:  # neighbors at distance 1 to 5
        flips = rng.choice(63, rng.integers(1, 6), replace=False)
        hashes.append(value ^ sum(1 << int(bit) for bit in flips))
    orbits = {value: list(map(int, iter_views(value))) for value in hashes}
    brute = {
        (a, b)
        for a in orbits
        for b in orbits
        if a < b and min((a ^ view).bit_count() for view in orbits[b]) <= 3
    }
    assert find_near_hashes(hashes) == brute and len(brute) > 20


def iter_views(value):
    """The hashes of the views of a chip, bit by bit."""
    bits = {
        (row, column): value >> (63 - 8 * row - column) & 1
        for row in range(8)
        for column in range(8)
    }
    for is_transposed in (False, True):
        for rows in (0, 1):
            for columns in (0, 1):
                result = 0
                for row, column in bits:
                    bit = bits[(column, row) if is_transposed else (row, column)]
                    bit ^= row % 2 * rows ^ column % 2 * columns
                    result = result << 1 | bit
                yield result


@pytest.mark.slow
@pytest.mark.realdata
def test_different_vehicles_of_mstar_are_not_joined(shared):
    chips = read_real_chips(shared, "mstar_soc10", "*/5/*.jpeg")
    assert len(chips) == 573 and similar_pairs(chips) == []


def read_real_chips(shared, name, pattern):
    """Read chips; scenes of HRSID are cut into 64 tiles of 100 pixels."""
    chips = [read_chip(path) for path in sorted(shared(name).rglob(pattern))]
    if name != "hrsid_scenes":
        return chips
    offsets = [(top, left) for top in range(0, 800, 100) for left in range(0, 800, 100)]
    return [
        scene[top : top + 100, left : left + 100]
        for scene in chips
        for top, left in offsets
    ]


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "pattern", "count", "copies"),
    [
        ("mstar_soc10", "*.jpeg", 5172, 300),
        ("rsscn7_96px", "*.jpg", 2800, 285),
        ("hrsid_scenes", "*.jpg", 1152, 0),
        ("opensarship", "Patch_Cal/*.tif", 187, 0),
        ("opensarship", "Patch/*.tif", 187, 0),
    ],
)
def test_real_chips_are_not_joined_and_their_copies_are(
    shared, name, pattern, count, copies
):
    """The copies are turned or mirrored, and JPEG of quality 75; chips that are mostly
    speckle are left out."""
    chips = read_real_chips(shared, name, pattern)
    assert len(chips) == count and similar_pairs(chips) == []
    if copies:
        rng = np.random.default_rng(0)
        originals = [chips[row] for row in rng.choice(count, 300, replace=False)]
        encoded = []
        for pixels in originals:
            view = np.ascontiguousarray(orientations(pixels)[rng.integers(8)])
            data = cv2.imencode(".jpg", view, [cv2.IMWRITE_JPEG_QUALITY, 75])[1]
            encoded.append(np.atleast_3d(cv2.imdecode(data, cv2.IMREAD_UNCHANGED)))
        pairs = similar_pairs([*originals, *encoded])
        assert (
            all(other == row + 300 for row, other in pairs) and len(pairs) >= copies - 3
        )
