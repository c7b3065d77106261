"""Keep maps of classified scenes in a run folder, and read them for the report."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from rsft.errors import DataError
from rsft.evaluation.report.dataset import data_uri
from rsft.evaluation.report.render import pluralize
from rsft.evaluation.report.run_files import read_json
from rsft.utils.atomic_files import atomic_folder

MAPS_DIR, MAPS_FILE = "maps", "maps.json"
"""Subfolder of a run folder, and the file in it that lists the maps; the pictures are 1.png, 2.png, ..."""


@dataclass(frozen=True)
class SceneMap:
    """A map of a scene in which the bundle of a run classified chips.

    Attributes:
        scene: name of the scene.
        chips: number of classified chips.
        ood: number of them that are unlike the training chips; None if the bundle is not calibrated.
        truth: comparison with the truth, in short lines; empty without a truth.
    """

    scene: str
    chips: int
    ood: int | None
    truth: list[str]

    @property
    def caption(self) -> str:
        """The numbers in sentences."""
        unlike = "" if self.ood is None else f", {self.ood:,} of them unlike the training chips (gray)"
        truth = f" Compared with the truth: {'; '.join(self.truth)}." if self.truth else ""
        return f"{self.scene}: {pluralize(self.chips, 'classified object')}{unlike}.{truth}"


def save_scene_maps(run: Path, maps: Sequence[tuple[SceneMap, bytes]]) -> None:
    """Replace the maps in a run folder, all of them or none.

    Args:
        run: the run folder.
        maps: the numbers of every scene, and its picture as PNG.
    """
    with atomic_folder(run / MAPS_DIR) as folder:
        for number, (_, picture) in enumerate(maps, 1):
            (folder / f"{number}.png").write_bytes(picture)
        (folder / MAPS_FILE).write_text(json.dumps([asdict(item) for item, _ in maps], indent=1), encoding="utf-8")


def read_scene_maps(run: Path) -> list[tuple[str, str]]:
    """Read the maps in a run folder.

    Args:
        run: the run folder.

    Returns:
        Caption and picture (a data URI) of every map; empty if the run has none.

    Raises:
        DataError: a file is damaged or missing.
    """
    listing, maps = run / MAPS_DIR / MAPS_FILE, []
    for number, item in enumerate(read_json(listing, list[SceneMap]) if listing.is_file() else [], 1):
        path = listing.with_name(f"{number}.png")
        data = np.frombuffer(path.read_bytes(), np.uint8) if path.is_file() else np.empty(0, np.uint8)
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        if picture is None:
            hint = "write it again: rsft report RUN --map TABLE"
            raise DataError("the picture of a map is damaged or missing", path, hint)
        maps.append((item.caption, data_uri(picture, quality=85)))  # WebP is several times smaller than the PNG
    return maps
