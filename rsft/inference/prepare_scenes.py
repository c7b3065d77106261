"""Build a chip store from labeled objects in scenes: `rsft prepare scenes`.

Chips are cut by the function with which `rsft predict` cuts them. Each scene is read by
one worker process, and a stopped build continues.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rsft.data.prepare.image_folder import find_typos
from rsft.data.prepare.registry import data_set, format_prepare_command
from rsft.utils.licenses import UNKNOWN

if TYPE_CHECKING:
    from rsft.data.chips.store import ChipStore
    from rsft.types import Progress


def show_notes(store: ChipStore, arguments: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was chosen while the store was built, and classes whose names may be typing errors."""
    from rsft.data.chips.store import read_dataset

    yield from read_dataset(store.root).get("notes", ())
    yield from find_typos(store, arguments)


@data_set("scenes", notes=show_notes, is_published=False)
def prepare_scenes(
    source: Path | list[Path],
    root: Path,
    labels: Path | None = None,
    ais: Path | None = None,
    min_confidence: float = 0.9,
    land: str = "auto",
    field: str | None = None,
    types: Path | None = None,
    layer: str | None = None,
    crs: str | None = None,
    columns: str | None = None,
    chip_size: str | None = None,
    margin: Annotated[int | None, typer.Option(min=0)] = None,
    min_side: int = 1,
    background: Annotated[int, typer.Option(min=0)] = 0,
    split: Literal["scene", "vessel", "object", "given"] = "scene",
    val: float = 0.2,
    test: float = 0.0,
    unit: str | None = None,
    bands: tuple[str, ...] | None = None,
    spacing: Annotated[float | None, typer.Option(min=0.001)] = None,
    license: str = UNKNOWN,
    jobs: int = 2,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Cut a chip store from scenes, with one chip for each labeled object.

    Products with a calibration are read as sigma0, unless `unit` says otherwise.

    Args:
        source: Scenes, folders of scenes, patterns, or @LIST: a text file with one
            scene per line.
        labels: Labels: a file for all scenes, or a folder with one file per scene, as
            for `rsft predict --at`.
        ais: AIS messages in place of labels: a file, or a folder of .csv and .parquet
            files, as for `rsft ais match`. Ships are detected, and each one that is
            matched gets the class of its ship type, and its MMSI.
        min_confidence: Matches with AIS of a smaller confidence, 0.5 to 1, are left
            out.
        land: Land, where --ais detects no ships: a file of polygons, brightness, none,
            or auto, as for `rsft predict`.
        field: Field of the labels with the class (default: class, category, label, type
            ...).
        types: YAML file that maps types of the labels to classes: `cargo: [Cargo,
            "70"]`. Other types are left out.
        layer: Layer of the labels, if the file has several.
        crs: Coordinate system of the labels, if their file does not declare it:
            EPSG:32633, or pixel.
        columns: Columns of a table of labels by their role, if their names do not tell
            it: lon=X,lat=Y,class=kind.
        chip_size: Side of the chips in pixels (64) or meters (640m). By default it fits
            the boxes.
        margin: Cut chips along the boxes, with this margin in pixels, in place of a
            fixed size.
        min_side: Minimum side of a box in pixels; smaller objects are rejected.
        background: Number of chips per scene away from all objects, of the class
            background.
        split: What is divided between train, val and test: scenes, vessels (field
            mmsi), or single objects. With given, the field split of the labels gives
            it, or else the folder of the scene.
        val: Share of each class for validation.
        test: Share of each class for the test split.
        unit: Unit of the pixels, if the files do not declare it: amplitude, intensity,
            sigma0, db, gamma0 or beta0.
        bands: Bands to store, such as VV; for files that do not name their bands, the
            names of all bands.
        spacing: Pixel spacing in meters, if a file has no georeference.
        license: License of the images: an SPDX identifier, or a text with restrictions.

    Raises:
        RequestError: no scene or no usable label is found, or an argument is out of
            range.
        DataError: a scene cannot be read.
    """
    if isinstance(source, str | Path):
        sources = [source]
    else:
        sources = list(source)
    arguments = dict(locals())
    from rsft.data.chips.builder import find_finished_store
    from rsft.inference.predict.batch_journal import journal_path
    from rsft.inference.preparation.job import build_scene_store

    not_options = ("source", "sources", "root", "jobs", "overwrite", "progress")
    options = {
        name: value for name, value in arguments.items() if name not in not_options
    }
    command = format_prepare_command("scenes", *sources, root=root, **options)
    finished = find_finished_store(root, command, overwrite)
    if finished:
        journal_path(root).unlink(
            missing_ok=True
        )  # left behind if a build was killed in its last step
        return finished
    return build_scene_store(SimpleNamespace(**arguments), command)
