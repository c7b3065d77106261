"""Bright objects on dark water, found in a scene that is read window by window: a convenience, no ship detector.

Two passes: one for the looks and the land, one for the objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rsft.data.imagery.bands import POLARISATIONS
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.units import DIGITAL, convert
from rsft.errors import RequestError
from rsft.inference.detection.cfar import Rings, blobs, contrast, threshold
from rsft.inference.detection.land_mask import BrightLand, Land, LandPolygons
from rsft.inference.inputs.discovery import Declared
from rsft.inference.inputs.scene_chips import check_scene
from rsft.inference.scenes.chip_window import Framing
from rsft.inference.scenes.locations import Place, Places
from rsft.inference.scenes.raster import Block, Reader, Scene
from rsft.types import Pixels, Progress

_CELL = 16  # pixels: side of the cells that looks and land are measured in
_GAP = 16  # a gap of the chip's side over this is bridged


@dataclass(frozen=True)
class Detector:
    """How bright objects are looked for.

    Attributes:
        pfa: false alarms a pixel of water.
        land: polygons that are left out; large bright parts of the scene if None.
    """

    pfa: float = 1e-6
    land: Path | None = None

    def __post_init__(self) -> None:
        if not 0 < self.pfa < 0.1:
            raise RequestError(f"a false alarm rate of {self.pfa:g}", "--pfa", "give a rate such as 1e-6")


class _Intensity:
    """Windows of a scene as intensity (H, W, B); what has no value is 0."""

    def __init__(self, scene: Scene, contract: Contract, declared: Declared) -> None:
        indices = check_scene(scene, contract, declared)
        self.unit, _ = contract.check_kind(scene.number_type, len(contract.bands), declared.unit)
        self.read = Reader(scene, indices[: len(contract.bands)])

    def __call__(self, block: Block) -> Pixels:
        pixels = self.read(block)
        meant = "amplitude" if self.unit in DIGITAL else self.unit
        intensity = convert(pixels, meant, "intensity").astype(np.float32)
        return np.where(np.isfinite(intensity) & (pixels != 0), intensity, 0)


def detect(
    scene: Scene, wanted: Detector, frame: Framing, declared: Declared, contract: Contract, progress: Progress | None
) -> Places:
    """Objects that are brighter than the water around them, no larger than a chip; in order from the top left.

    The ring of surroundings lies between one and two sides of a chip, which holds what is looked for.

    Raises:
        RequestError: optical bands, or polygons of land that cannot be used.
        DataError: a scene that cannot be read.
    """
    if not set(contract.bands) <= {*POLARISATIONS, "gray"}:
        what = f"bright objects are looked for in SAR, the model takes {', '.join(contract.bands)}"
        raise RequestError(what, "--detect", "give --at or --grid")
    assert frame.side is not None
    side = max(4, round(frame.side * sum(frame.scale) / 2))
    read = _Intensity(scene, contract, declared)
    try:
        means, looks = _measure(scene, read, progress)
        land = LandPolygons(wanted.land, scene) if wanted.land else BrightLand(means, _CELL, side)
        rings = Rings(side // 2, side)
        factor = threshold(wanted.pfa, looks, rings.cells)
        found: list[Place] = []
        large = dark = 0
        for block in _reported(scene, progress, "detecting"):
            inside, too_large, masked = _window(block, scene, read, land, rings, factor)
            found, large, dark = found + inside, large + too_large, dark + masked
    finally:
        read.read.close()
    order = sorted(found, key=lambda place: (place.row, place.col))
    named = [
        Place(place.row, place.col, place.box, f"{scene.name}_d{number:06d}", None, place.score)
        for number, place in enumerate(order, 1)
    ]
    return Places(named, [], _notes(scene, wanted, looks, factor, dark, large))


def _notes(scene: Scene, wanted: Detector, looks: float, factor: float, dark: int, large: int) -> list[str]:
    name, share = scene.path.name, dark / (scene.height * scene.width)
    how = f"polygons of {wanted.land}" if wanted.land else "its brightness, which may be ice or wind: --land is better"
    notes = [
        f"{name}: bright objects by CA-CFAR, not known to be ships: {10 * np.log10(factor):.1f} dB above their "
        f"surroundings, for {wanted.pfa:g} false alarms a pixel at {looks:.1f} looks, as measured",
        f"{name}: left out as land by {how}: {share:.1%}",
    ]
    return notes + ([f"{name}: bright objects larger than a chip, left out: {large:,}"] if large else [])


def _window(
    block: Block, scene: Scene, read: _Intensity, land: Land, rings: Rings, factor: float
) -> tuple[list[Place], int, int]:
    """The objects whose middle lies in the window, how many more were larger than a chip, and how much is land."""
    margin = rings.outer + rings.guard
    wide = Block(block.top - margin, block.left - margin, block.bottom + margin, block.right + margin)
    intensity, dry = read(wide), land(wide)
    ratios = [contrast(plane, (plane > 0) & ~dry, rings) for plane in np.moveaxis(intensity, 2, 0)]
    inside, large = [], 0
    for blob in blobs(np.max(ratios, axis=0), factor, max(1, 2 * rings.guard // _GAP)):
        row, col = blob.row + wide.top, blob.col + wide.left
        if not (block.top <= row < block.bottom and block.left <= col < block.right):
            continue
        edges = np.linalg.norm(np.diff(blob.corners[:3], axis=0), axis=1)
        if edges.max() > 2 * rings.guard:
            large += 1
            continue
        box = blob.corners + np.array([wide.top, wide.left])
        inside.append(Place(row, col, tuple(box.ravel().tolist()), "", None, round(blob.contrast, 2)))
    return inside, large, int(dry[margin:-margin, margin:-margin].sum())


def _measure(scene: Scene, read: _Intensity, progress: Progress | None) -> tuple[NDArray[np.float64], float]:
    """Mean intensity of cells (R, C), NaN without data, and the equivalent number of looks: mean^2 / variance in the
    middle one of the cells, which is water where there is more of it than of anything else.
    """
    shape = (-(-scene.height // _CELL), -(-scene.width // _CELL))
    total, squares, count = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for block in _reported(scene, progress, "looking for land"):
        plane = read(block)[:, :, 0].astype(np.float64)
        rows, cols = np.arange(block.top, block.bottom) // _CELL, np.arange(block.left, block.right) // _CELL
        place = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
        for sums, values in ((total, plane), (squares, plane**2), (count, plane > 0)):
            sums[place] += _cells(np.asarray(values, np.float64), rows, cols)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / count
        looks = mean**2 / (squares / count - mean**2)
    full = (count >= _CELL**2 / 2) & np.isfinite(looks)
    return mean, float(np.clip(np.median(looks[full]), 1, 100)) if full.any() else 1.0


def _cells(values: NDArray[np.float64], rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums (r, c) over runs of equal row and column numbers."""
    starts = [np.flatnonzero(np.diff(numbers, prepend=-1)) for numbers in (rows, cols)]
    return np.asarray(np.add.reduceat(np.add.reduceat(values, starts[0], axis=0), starts[1], axis=1))


def _reported(scene: Scene, progress: Progress | None, what: str) -> Iterator[Block]:
    blocks = list(scene.windows())
    for number, block in enumerate(blocks, 1):
        yield block
        if progress:
            progress(number, len(blocks), f"{what}, {scene.name}")
