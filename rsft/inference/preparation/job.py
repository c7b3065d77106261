"""Build a chip store from scenes: read labels or match AIS, decide where chips are cut, and write them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from rsft.data.annotations.base import parse_columns
from rsft.data.chips.builder import build_store
from rsft.data.chips.record import StoreDescription
from rsft.data.chips.store import OBJECT_COLUMNS, ChipStore, list_first_names
from rsft.data.datasets.splits import check_val_share
from rsft.data.imagery.bands import check_bands
from rsft.data.imagery.scene_uri import file_state
from rsft.errors import RequestError
from rsft.inference.predict.batch_journal import journal_path
from rsft.inference.preparation.labels import LabeledObjects, assign_splits, read_types
from rsft.inference.preparation.placement import ChipSize
from rsft.inference.preparation.records import make_record, open_scenes
from rsft.scenes.detection import detect_objects
from rsft.scenes.locations import ChipWindow, SceneLocations
from rsft.scenes.options import Declaration
from rsft.scenes.query import CfarOptions, parse_land
from rsft.scenes.raster import RasterScene, gdal_environment
from rsft.scenes.recorded import find_once
from rsft.utils.journal import Journal
from rsft.version import __version__

_UNLABELED = "rsft predict SCENES --detect --chips FOLDER"
_SHARED_SCENES = (
    "warning: chips of one scene are in several splits, so that the measured accuracy"
    " will be too high"
)


def build_scene_store(options: SimpleNamespace, command: str) -> ChipStore:
    """Build the chip store of `rsft.inference.prepare_scenes.prepare_scenes`.

    Args:
        options: its arguments by name.
        command: the command line that builds the same store again.

    Returns:
        The new store.

    Raises:
        RequestError: no scene or no usable label is found, or an argument is out of
            range.
        DataError: a scene cannot be read.
    """
    if (options.labels is None) == (options.ais is None):
        if options.labels is None:
            fault = "no labels"
        else:
            fault = "labels and AIS messages"
        raise RequestError(
            fault,
            "--labels",
            "give --labels FILE or --ais FILE, or cut unlabeled chips: " + _UNLABELED,
        )
    check_bands(options.bands or ())
    check_val_share(options.val + options.test)
    roles = parse_columns(options.columns)
    size = ChipSize.parse(options.chip_size, options.margin)
    objects = LabeledObjects(
        options.labels or options.ais or Path(),
        options.field,
        read_types(options.types),
        options.min_side,
    )
    with gdal_environment(), _detector(options) as locate:
        for scene in open_scenes(options.sources, options.unit, options.progress):
            if locate is None:
                objects.read(scene, options.layer, options.crs, roles)
            else:
                objects.match(
                    scene,
                    "ais",
                    partial(locate, scene),
                    options.min_confidence,
                    options.progress,
                )
        objects.finish()
        return _write_store(
            options, command, objects, objects.windows(size, options.spacing)
        )


@contextmanager
def _detector(
    options: SimpleNamespace,
) -> Iterator[Callable[[RasterScene], SceneLocations] | None]:
    """Yield the function that detects ships for AIS, which records them until the store is built; None for labels."""
    if options.ais is None:
        yield None
        return
    declared = Declaration(options.unit, options.bands)
    detector = CfarOptions(land=parse_land(options.land))
    if isinstance(detector.land, Path):
        land = file_state(detector.land)
    else:
        land = None
    key = repr((__version__, declared, detector, land))
    journal = Journal(journal_path(options.root), key)
    is_built = False

    def locate(scene: RasterScene) -> SceneLocations:
        name = f"detected in {scene.path}, {scene.path.state()}"
        return find_once(
            journal,
            name,
            partial(detect_objects, scene, detector, declared, options.progress),
        )

    try:
        yield locate
        is_built = True
    finally:
        journal.close(is_built)


def _write_store(
    options: SimpleNamespace,
    command: str,
    objects: LabeledObjects,
    windows: Mapping[str, ChipWindow],
) -> ChipStore:
    if options.background:
        objects.add_background(windows, options.background, options.seed)
    splits = assign_splits(
        objects.found,
        options.split,
        {
            "train": 1 - options.val - options.test,
            "val": options.val,
            "test": options.test,
        },
        options.seed,
    )
    if options.split == "object":
        objects.notes.append(_SHARED_SCENES)
    make = partial(
        make_record,
        labels=objects.labels,
        by=options.split,
        bands=options.bands,
        spacing=options.spacing,
    )
    records = [
        make(item, windows[item.scene.name], split)
        for item, split in zip(objects.found, splits, strict=True)
    ]
    description = StoreDescription(
        "objects in scenes,"
        f" {list_first_names([source.name for source in options.sources], 3)}",
        objects.classes,
        command,
        skipped=dict(sorted(objects.skipped.items())),
        rejected=objects.rejected,
        license=options.license,
        columns=OBJECT_COLUMNS,
        notes=tuple(dict.fromkeys(objects.notes)),
    )
    return build_store(
        options.root,
        records,
        description,
        overwrite=options.overwrite,
        progress=options.progress,
        jobs=options.jobs,
    )
