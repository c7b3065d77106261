"""The places of a scene as a source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from rsft.data.imagery.contract import Contract
from rsft.data.imagery.reader import check_values
from rsft.errors import DataError
from rsft.inference.inputs.chip_source import Chip, NoData, one_band, text
from rsft.inference.inputs.chip_writer import keep_chip
from rsft.inference.inputs.discovery import Declared
from rsft.inference.inputs.object_length import box_length
from rsft.inference.scenes.chip_window import Framing
from rsft.inference.scenes.georeference import Georeference
from rsft.inference.scenes.locations import Place
from rsft.inference.scenes.raster import Block, Reader, Scene


class SceneChips:
    """Chips cut around places, in the order in which the scene's blocks lie on disk."""

    def __init__(
        self,
        scene: Scene,
        places: Sequence[Place],
        contract: Contract,
        frame: Framing,
        spacing: tuple[float, float] | None,
        *,
        declared: Declared,
        pixels: bool = False,
        tiled: bool = False,
        keep: Path | None = None,
    ) -> None:
        """See `check_scene` for what must hold.

        Args:
            spacing: metres a pixel of a chip, down and along.
            pixels: whether geometries are in pixels of the scene, column and -row, instead of degrees.
            tiled: whether the places are tiles, of which one without data is no fault.
            keep: a folder that cut chips are written to.
        """
        order = sorted(
            range(len(places)), key=lambda index: (scene.block_of(places[index].row, places[index].col), index)
        )
        self.scene, self.contract, self.frame, self.spacing = scene, contract, frame, spacing
        self.places = [places[index] for index in order]
        self.unit, self.tiled, self.keep = declared.unit, tiled, keep
        indices = check_scene(scene, contract, declared)
        self._reader = Reader(scene, indices)
        self._geometry = _geometries(scene, self.places, pixels)
        self._lonlat = _lonlat(scene.place, self.places)

    def __len__(self) -> int:
        return len(self.places)

    @property
    def over_the_edge(self) -> int:
        """Chips that are not whole; the rest of them has no value."""
        blocks = map(self.frame.block, self.places)
        return sum(not _inside(block, self.scene) for block in blocks)

    def read(self, number: int) -> Chip:
        """As `Source` says."""
        place = self.places[number]
        window = self._reader(self.frame.block(place))
        try:
            check_values(window, self.scene.path)
        except DataError as error:
            if self.tiled:
                raise NoData(error.what) from error
            raise
        pixels, grey = one_band(self.frame.chip(window, place), self.contract)
        facts = self._facts(number)
        if self.keep is not None:
            path = self.keep / f"{place.name}.tif"
            keep_chip(path, pixels, self.contract.bands, self.scene.place, self.frame.block(place))
            facts["path"] = text(path)
        return Chip(pixels, self.unit, None if self.tiled else self.spacing, facts, grey)

    def _facts(self, number: int) -> dict[str, Any]:
        place, scene = self.places[number], self.scene
        facts: dict[str, Any] = {"chip": text(place.name), "scene": text(scene.path.name), "path": text(scene.path)}
        facts |= {"row": round(place.row, 3), "col": round(place.col, 3)}
        lon, lat = self._lonlat[number].tolist()
        facts |= {"lon": lon, "lat": lat, "at": place.at, "score": place.score}
        if place.box is not None and self.spacing is not None and not self.tiled:
            down, along = (metres / scale for metres, scale in zip(self.spacing, self.frame.scale, strict=True))
            facts |= {"length_m": round(box_length(place.box, (down, along)), 1), "length_from": "box"}
        return facts | {"geometry": self._geometry[number]}

    def where(self, number: int) -> tuple[str, int]:
        """The scene, and the place in it."""
        place = self.places[number]
        return f"{text(self.scene.path)} {place.name}", 0

    def close(self) -> None:
        """Close the scene."""
        self._reader.close()


def check_scene(scene: Scene, contract: Contract, declared: Declared) -> list[int]:
    """The indices of the bands to read, in the contract's order.

    Raises:
        DataError: bands or unit that are not those of the contract.
    """
    names = declared.bands or scene.bands
    try:
        contract.arrange(np.empty((1, 1, scene.count)), names)
        indices = [names.index(band) for band in contract.bands] if names else list(range(scene.count))
        grey = scene.count == 3 and names is None and len(contract.bands) == 1  # whether it is, its pixels will say
        contract.check_kind(scene.number_type, 1 if grey else len(indices), declared.unit)
    except DataError as error:
        raise DataError(error.what, scene.path, error.fix) from error
    return indices


def _inside(block: Block, scene: Scene) -> bool:
    return block.top >= 0 and block.left >= 0 and block.bottom <= scene.height and block.right <= scene.width


def _geometries(scene: Scene, places: Sequence[Place], pixels: bool) -> list[Any]:
    """Boxes where every place has one, else points: in degrees, or as column and -row; None where there are none."""
    if not places:
        return []
    boxed = all(place.box is not None for place in places)
    corners = np.array([place.box if boxed else (place.row, place.col) for place in places], float).reshape(
        len(places), -1, 2
    )
    if pixels:
        flat = corners[:, :, ::-1] * [1, -1]
        return list(shapely.polygons(flat) if boxed else shapely.points(flat[:, 0]))
    if scene.place is None:
        return [None] * len(places)
    if boxed:
        return list(scene.place.outlines(corners))
    found = scene.place.lonlat(*corners[:, 0].T)
    return [shapely.Point(pair) if np.isfinite(pair).all() else None for pair in found]


def _lonlat(place: Georeference | None, places: Sequence[Place]) -> NDArray[Any]:
    """(N, 2) degrees, None where there are none."""
    found = np.full((len(places), 2), None, object)
    if place is not None and places:
        degrees = place.lonlat([each.row for each in places], [each.col for each in places])
        finite = np.isfinite(degrees)
        found[finite] = degrees[finite].round(7)
    return found
