"""Build a chip store of labeled objects in scenes."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from rsft.data.annotations.images import NoAnnotationsError
from rsft.data.chips.class_names import list_first_names
from rsft.data.chips.manifest import OBJECT_COLUMNS
from rsft.data.chips.record import ChipRecord, StoreDescription
from rsft.data.chips.store import ChipStore
from rsft.data.datasets.splits import check_val_share
from rsft.data.imagery.bands import check_bands
from rsft.data.imagery.scene_uri import SceneUri
from rsft.data.prepare.store_build import StoreBuild
from rsft.errors import RequestError
from rsft.scenes.detection import recorded_detector
from rsft.scenes.inputs import find_scenes
from rsft.scenes.locate import locate
from rsft.scenes.locations import SceneLocations
from rsft.scenes.locators import LOCATORS, NothingInSceneError
from rsft.scenes.options import ChipOptions, Declaration
from rsft.scenes.preparation.background import draw_background
from rsft.scenes.preparation.labels import (
    BACKGROUND,
    LabeledObject,
    LabeledObjects,
    read_types,
)
from rsft.scenes.preparation.records import make_record, square_spacing
from rsft.scenes.preparation.request import SceneStoreRequest
from rsft.scenes.preparation.splits import (
    assign_splits,
    default_split,
    group_of,
)
from rsft.scenes.query import CfarOptions, Query
from rsft.scenes.raster import (
    RasterScene,
    gdal_environment,
    open_scene,
)
from rsft.scenes.requirements import select_unit
from rsft.scenes.windows import ChipWindow, check_boxes, fit_size, make_window
from rsft.types import Progress
from rsft.utils.progress import track

_SHARED_SCENES = (
    "warning: chips of one scene are in several splits, so that the measured accuracy"
    " will be too high"
)


class SceneStoreBuilder:
    """Locates labeled objects in scenes, and builds the store of their chips.

    Args:
        store_build: files, folders, patterns and lists of scenes, and their store.
        request: which chips are stored.
        seed: seed of all random choices.

    Raises:
        RequestError: there are no labels, or an option is out of range.
    """

    def __init__(
        self, store_build: StoreBuild, request: SceneStoreRequest, seed: int
    ) -> None:
        objects = request.objects
        if objects.at is None and not objects.sources:
            raise RequestError(
                "no labels",
                "--at",
                "give --at FILE or --ais FILE, or cut unlabeled chips: rsft predict"
                " SCENES --detect --chips FOLDER",
            )
        check_bands(request.bands or ())
        check_val_share(request.val + request.test)
        detector = None if objects.at else CfarOptions(land=request.land)
        self.query = Query(**vars(objects), detect=detector)
        self.store_build = store_build
        self.sources = [Path(source) for source in store_build.sources]
        self.progress = store_build.progress
        self.request = request
        self.seed = seed
        self.declaration = Declaration(request.unit, request.bands)
        self.options = ChipOptions(request.size, spacing=request.spacing)
        labels = objects.at or next(iter(objects.sources.values()))
        self.objects = LabeledObjects(
            labels, request.label_field, read_types(request.types), request.min_size
        )

    def build(self) -> ChipStore:
        """Build the store.

        Raises:
            RequestError: no scene or no usable label is found.
            DataError: a scene cannot be read.
        """
        with gdal_environment(), self._detector() as detect:
            self._find_objects(detect)
            windows = self._make_windows()
            if self.request.background:
                self._add_background(windows)
            records = list(self._records(windows))
            objects = self.objects
            names = list_first_names([source.name for source in self.sources], 3)
            description = StoreDescription(
                f"objects in scenes, {names}",
                objects.classes,
                self.store_build.command,
                skipped=dict(sorted(objects.skipped.items())),
                rejected=objects.rejected,
                license=self.request.license,
                columns=OBJECT_COLUMNS,
                notes=tuple(dict.fromkeys(objects.notes)),
            )
            return self.store_build.write(records, description)

    def _detector(
        self,
    ) -> AbstractContextManager[Callable[[RasterScene], SceneLocations]]:
        detector = self.query.detect
        if not detector:
            return nullcontext(lambda scene: SceneLocations())
        root = self.store_build.root
        return recorded_detector(root, detector, self.declaration, self.progress)

    def _find_objects(self, detect: Callable[[RasterScene], SceneLocations]) -> None:
        """Find the labeled objects of all scenes.

        Raises:
            RequestError: no label can be used, or no scene is in the labels.
        """
        objects = self.objects
        names = list(self.query.sources)
        for scene in open_scenes(self.sources, self.request.unit, self.progress):
            objects.scenes += 1
            try:
                positions = locate(
                    scene,
                    self.query,
                    partial(detect, scene),
                    min_confidence=self.request.min_confidence,
                    progress=self.progress,
                )
            except NoAnnotationsError:
                objects.skipped["scene without labels"] += 1
            except NothingInSceneError as error:
                objects.skipped[f"scene without {LOCATORS[names[0]].title}"] += 1
                objects.notes.append(f"{scene.path.name} is left out: {error.message}")
            else:
                if names:
                    objects.add_matched(scene, positions, names[0])
                else:
                    objects.add(scene, positions)
        objects.finish(self.request.rare)

    def _make_windows(self) -> dict[str, ChipWindow]:
        """Return the window of chips by the name of the scene, and note the size."""
        objects = self.objects
        locations = [item.location for item in objects.objects]
        options = self.options
        if not options.size:
            options = replace(options, size=fit_size(locations))
            has_boxes = any(location.box for location in locations)
            reason = "by the boxes" if has_boxes else "because labels are points"
            objects.notes.append(
                f"chips of {options.size} x {options.size} pixels, {reason}: --size"
                " changes this"
            )
        windows = {}
        oblong = []
        for scene, _ in objects.by_scene():
            windows[scene.name] = make_window(scene, options)
            check_boxes(windows[scene.name], locations)
            if scene.spacing and square_spacing(scene, options) is None:
                oblong.append(scene.path.name)
        if oblong:
            objects.notes.append(
                "pixels are not square, so that no spacing is stored:"
                f" {list_first_names(oblong)}"
            )
        return windows

    def _add_background(self, windows: dict[str, ChipWindow]) -> None:
        """Add places of background chips, at random in each scene with labels."""
        count = self.request.background
        found = []
        for scene, items in self.objects.by_scene():
            locations = [item.location for item in items]
            places = draw_background(
                scene, windows[scene.name], locations, count, self.seed
            )
            found += items
            found += [LabeledObject(scene, place, BACKGROUND) for place in places]
            if len(places) < count:
                self.objects.notes.append(
                    f"{scene.name}: room for {len(places)} of {count} background chips"
                )
        self.objects.objects = found  # scene by scene: one worker process reads a scene

    def _records(self, windows: dict[str, ChipWindow]) -> Iterator[ChipRecord]:
        request = self.request
        items = self.objects.objects
        shares = {
            "train": 1 - request.val - request.test,
            "val": request.val,
            "test": request.test,
        }
        by = request.split or default_split(items, shares)
        splits = assign_splits(items, by, shares, self.seed)
        if by == "object":
            self.objects.notes.append(_SHARED_SCENES)
        for item, split in zip(items, splits, strict=True):
            yield make_record(
                item,
                windows[item.scene.name],
                split,
                group_of(item, by),
                labels=self.objects.labels,
                bands=request.bands,
                options=self.options,
            )


def open_scenes(
    sources: Sequence[Path], unit: str | None, progress: Progress | None
) -> Iterator[RasterScene]:
    """Open the scenes of files, folders, patterns and lists.

    Args:
        sources: the files, folders, patterns and lists; a scene that is in several of
            them is opened once.
        unit: the unit that the user declares.
        progress: called after each scene.

    Yields:
        The scenes, in the unit in which their chips are stored.

    Raises:
        RequestError: two scenes have the same name, or a source has no scene.
    """
    uris: dict[SceneUri, None] = {}
    for source in sources:
        uris |= dict.fromkeys(_find_scenes(source))
    for name, count in Counter(uri.stem.removesuffix(".SAFE") for uri in uris).items():
        if count > 1:
            raise RequestError(
                f"{count} scenes have the name {name}", sources[0], "rename them"
            )
    for uri in track(uris, len(uris), progress, "opening scenes"):
        yield select_unit(open_scene(uri), None, unit)


def _find_scenes(source: Path) -> list[SceneUri]:
    """Return the scenes of a file, folder, pattern or list.

    Raises:
        RequestError: there is none, or one is not on this machine.
    """
    scenes = list(find_scenes([source]))
    for uri in scenes:
        if not uri.path:
            raise RequestError(
                "scenes are files for this command", uri, "download the scene"
            )
    return scenes
