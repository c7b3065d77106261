"""Show the chips of a run: counts, audit, pictures, gallery, and maps of scenes."""

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from rsft.data.audit import read_audits
from rsft.data.chips.manifest import MANIFEST, SPLITS
from rsft.data.chips.store import AUDIT_FILE, DATASET, ChipStore
from rsft.data.loading.packing import load_packed_images
from rsft.errors import DataError, RequestError
from rsft.evaluation.files import read_json
from rsft.evaluation.report.render import pluralize
from rsft.evaluation.report.run_files import RunFiles
from rsft.models.bundle.bundle import Bundle
from rsft.types import GROUPS, Bytes, Progress
from rsft.utils.atomic_files import atomic_folder, sha256
from rsft.utils.untrusted.documents import load_json

MAX_CLASSES = 24
"""Up to this number of classes, chips are counted by class; with more, by group."""

RGB_PLANES = (
    ("R", "G", "B"),
    ("red", "green", "blue"),
    ("B04", "B03", "B02"),
    ("B4", "B3", "B2"),
)
"""Planes that are shown as red, green and blue, else the first plane is; the last two
are those of Sentinel-2."""


def summarize_store(run: RunFiles, store: ChipStore) -> dict[str, Any]:
    """Return the variables of the section on the data.

    They are chips by class or group and split, and the audit of the store.

    Raises:
        DataError: a file of the store is damaged.
    """
    splits = [name for name in SPLITS if not store.split(name).empty]
    column = "class"
    names = store.classes
    if len(names) > MAX_CLASSES:
        column = "group"
        names = GROUPS
    counts = [store.split(split)[column].value_counts() for split in splits]
    trained_hash = run.metadata.data.get("manifest_sha256")
    altered = None
    if trained_hash is not None:
        altered = trained_hash != sha256(store.root / MANIFEST)
    audit = None
    audit_path = store.root / AUDIT_FILE
    if audit_path.is_file():
        audit = next(iter(read_audits(audit_path)), None)
    return {
        "store": store,
        "splits": splits,
        "row_kind": column,
        "rows": {name: [int(count.get(name, 0)) for count in counts] for name in names},
        "command": str(load_json(store.root / DATASET).get("command", "")),
        "altered": altered,
        "audit": audit,
    }


class ChipPictures:
    """Evaluated chips as the network sees them.

    They are cropped, resized and stretched by the run's contract.

    Raises:
        RsftError: the bundle or a chip cannot be read, or a class or the split is not
            in the store.
    """

    def __init__(
        self, run: RunFiles, store: ChipStore, progress: Progress | None = None
    ) -> None:
        bundle = Bundle.load(run.folder / "bundle")
        table = store.split(run.evaluation.split if run.evaluation else "val")
        if table.empty or set(table["class"]) - set(bundle.classes):
            raise RequestError(
                "the chip store does not match the run",
                store.root,
                "give its chip store with --data",
            )
        self.images = load_packed_images(store.root, table, bundle.contract, progress)
        self.rows = {path: row for row, path in enumerate(table["path"])}
        planes = list(bundle.contract.planes)
        names = next(
            (names for names in RGB_PLANES if set(names) <= set(planes)),
            (planes[0],) * 3,
        )
        self.planes = [planes.index(name) for name in names]
        self.plane_names = ", ".join(dict.fromkeys(names))

    def picture(self, path: str, side: int) -> str:
        """Return one chip, at most `side` pixels wide, as a data URI.

        It is "" if the evaluated split has no such chip.
        """
        if path in self.rows:
            return data_uri(self._image(path, side))
        return ""

    def _image(self, path: str, side: int) -> Bytes:
        """Return pixels (side, side, 3) as blue, green and red.

        A smaller chip keeps its size.
        """
        image = np.ascontiguousarray(
            self.images[self.rows[path]][:, :, self.planes[::-1]]
        )
        if image.shape[0] > side:
            image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        return image


def data_uri(image: NDArray[Any], quality: int = 72) -> str:
    """Return an image (H, W, 3) of bytes, BGR, as WebP in a data URI.

    The quality is 0-100.
    """
    data = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, quality])[
        1
    ].tobytes()
    return f"data:image/webp;base64,{base64.b64encode(data).decode()}"


MAX_MISTAKES = 96
MAX_UNSURE = 48
"""Largest numbers of mistakes and of predictions with low confidence in the gallery."""

PICTURE_SIZE = 96
"""Largest side of a picture in pixels."""


def make_gallery(
    predictions: pd.DataFrame, classes: Sequence[str], pictures: ChipPictures | None
) -> dict[str, Any]:
    """Choose the most confident mistakes and the least confident predictions.

    Args:
        predictions: the table predictions.parquet.
        classes: class names by index.
        pictures: None for a gallery without pictures.

    Returns:
        "chips": rows of the table with "confidence", "kinds" and "picture" in the order
        of the page; "mistakes": number
        of all mistakes.
    """
    probabilities = predictions[[f"p_{name}" for name in classes]].to_numpy(float)
    table = predictions.reset_index(drop=True)
    table["confidence"] = probabilities.max(axis=1)
    wrong = table[table["class"] != table["predicted"]].sort_values(
        "confidence", ascending=False, kind="stable"
    )
    kinds = {row: ["mistake"] for row in wrong.index[:MAX_MISTAKES]}
    for row in table.nsmallest(MAX_UNSURE, "confidence", keep="first").index:
        kinds.setdefault(row, []).append("unsure")
    chips = table.loc[list(kinds)].to_dict("records")
    for chip, words in zip(chips, kinds.values(), strict=True):
        chip["kinds"] = " ".join(words)
        chip["picture"] = ""
        if pictures:
            chip["picture"] = pictures.picture(chip["path"], PICTURE_SIZE)
    return {"chips": chips, "mistakes": len(wrong)}


MAPS_DIR = "maps"
MAPS_FILE = "maps.json"
"""Subfolder of a run folder, and the file in it that lists the maps; the pictures are
1.png, 2.png, ..."""


@dataclass(frozen=True)
class SceneMap:
    """A map of a scene in which the bundle of a run classified chips.

    Attributes:
        scene: name of the scene.
        chips: number of classified chips.
        ood: number of them that are unlike the training chips; None if the bundle is
            not calibrated.
        truth: comparison with the truth, in short lines; empty without a truth.
        legend: color of every class as #rrggbb, by its name and number of chips; empty
            if the picture has a legend.
    """

    scene: str
    chips: int
    ood: int | None
    truth: list[str]
    legend: dict[str, Annotated[str, Field(pattern="^#[0-9a-f]{6}$")]] = field(
        default_factory=dict
    )

    @property
    def caption(self) -> str:
        """The numbers in sentences."""
        text = f"{self.scene}: {pluralize(self.chips, 'classified object')}"
        if self.ood is not None:
            text += f", {self.ood:,} of them unlike the training chips (gray)"
        if self.truth:
            text += f". Compared with the truth: {'; '.join(self.truth)}"
        return f"{text}."


def save_scene_maps(run: Path, maps: Sequence[tuple[SceneMap, bytes]]) -> None:
    """Replace the maps in a run folder, all of them or none.

    A map is the numbers of a scene, and its picture as PNG.
    """
    with atomic_folder(run / MAPS_DIR) as folder:
        for number, (_, picture) in enumerate(maps, 1):
            (folder / f"{number}.png").write_bytes(picture)
        (folder / MAPS_FILE).write_text(
            json.dumps([asdict(item) for item, _ in maps], indent=1), encoding="utf-8"
        )


def read_scene_maps(run: Path) -> list[tuple[SceneMap, str]]:
    """Return the numbers and the picture (a data URI) of every map in a run folder.

    Raises:
        DataError: a file is damaged or missing.
    """
    listing = run / MAPS_DIR / MAPS_FILE
    if not listing.is_file():
        return []
    maps = []
    for number, item in enumerate(read_json(listing, list[SceneMap]), 1):
        path = listing.with_name(f"{number}.png")
        picture = None
        if path.is_file() and path.stat().st_size:
            picture = cv2.imdecode(
                np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR
            )
        if picture is None:
            raise DataError(
                "the picture of a map is damaged or missing",
                path,
                "write it again: rsft report RUN --map TABLE",
            )
        # WebP is several times smaller than the PNG
        maps.append((item, data_uri(picture, quality=85)))
    return maps
