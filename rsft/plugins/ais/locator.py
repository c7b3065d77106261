"""The option `--ais`: the objects of a scene get the ship that AIS messages name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rsft.scenes.locators import Locator

if TYPE_CHECKING:
    from rsft.scenes.locations import SceneLocations
    from rsft.scenes.raster import RasterScene
    from rsft.types import Progress

_COLUMNS = {
    "status": "ais_status",
    "mmsi": "ais_mmsi",
    "ais_class": "ais_class",
    "ship_name": "ais_name",
    "ais_length_m": "ais_length_m",
    "confidence": "ais_confidence",
}


class AisLocator(Locator):
    """Takes status, class and identity of the objects from the messages of ships."""

    name = "ais"
    title = "AIS messages"
    help = (
        "AIS messages: a file, or a folder of .csv and .parquet files. Matches ships to"
        " the objects, and adds MMSI and AIS class."
    )

    def locate(
        self,
        scene: RasterScene,
        source: Path,
        find_objects: Callable[[], SceneLocations],
        min_confidence: float,
        progress: Progress | None,
    ) -> SceneLocations:
        from rsft.plugins.ais.job import match_ais
        from rsft.plugins.ais.match import AisOptions

        options = AisOptions(min_confidence=min_confidence)
        match = match_ais(scene, find_objects, [source], options, progress)
        positions = match.positions
        positions.add_attributes(match.objects[list(_COLUMNS)].rename(columns=_COLUMNS))
        counts = ", ".join(f"{count:,} {name}" for name, count in match.counts.items())
        positions.notes = [f"AIS in {scene.path.name}: {counts}", *match.notes]
        positions.skipped += match.left_out
        return positions
