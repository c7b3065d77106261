"""Build chip stores of the classification data sets of TorchGeo.

TorchGeo's class gives splits, class names and samples.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

from rsft.data.datasets.formats.text_files import SPLIT_FOLDERS
from rsft.data.prepare.registry import data_set
from rsft.data.prepare.store_build import StoreBuild, builds_store
from rsft.errors import DataError, RequestError
from rsft.plugins.torchgeo_datasets.bands import KNOWN, BandChoice, choose_bands
from rsft.utils.command_options import Access, Option
from rsft.utils.licenses import UNKNOWN

if TYPE_CHECKING:
    from rsft.data.chips.record import ChipRecord
    from rsft.data.chips.store import ChipStore
    from rsft.types import Pixels, Progress, Rejection


def list_notes(store: ChipStore, arguments: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was chosen or is missing, from the notes of the store."""
    return (f"note: {note}" for note in store.notes)


@data_set("torchgeo", notes=list_notes, is_published=False)
@builds_store("torchgeo")
def prepare_torchgeo(
    build: StoreBuild,
    name: str,
    root: Path,
    data: Annotated[Path, Option(access=Access.READ | Access.WRITE)] = Path("data"),
    split: tuple[str, ...] | None = None,
    bands: tuple[str, ...] | None = None,
    unit: str | None = None,
    classes: tuple[str, ...] | None = None,
    settings: tuple[str, ...] | None = None,
    val: float = 0.2,
    license: str = UNKNOWN,
    download: Annotated[bool, Option(access=Access.ONLINE)] = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Build a chip store of a classification data set of TorchGeo.

    The splits are TorchGeo's; "validation" becomes val. docs/torchgeo.md lists the data
    sets with known units.

    Args:
        name: TorchGeo's class, such as EuroSAT.
        data: Folder of the data set, the `root` of TorchGeo's class.
        split: Splits to take, such as train,test (default: all that the folder has).
        bands: Bands to store, such as B04,B03,B02; for a data set with unknown bands,
            the names of all its bands in order.
        unit: Unit of the pixels; needed for a data set with an unknown unit.
        classes: Class names in the order of the labels, for a data set that does not
            name them.
        settings: Further arguments of TorchGeo's class, such as version=3_random.
        val: Share of each class for validation, if the data set has no validation
            split.
        license: License of the images: an SPDX identifier, or a text with restrictions.
        download: Let TorchGeo download the data set to the folder, with checksums.

    Raises:
        RequestError: TorchGeo has no such data set, it is not one of single labels, its
            files are missing, its unit or bands are unknown, or `root` is not empty.
        DataError: no chip can be used.
    """
    from rsft.data.chips.record import StoreDescription
    from rsft.data.datasets.splits import check_val_share, hold_out

    check_val_share(val)
    dataset_class = find_torchgeo_class(name)
    name = dataset_class.__name__
    choice = choose_bands(name, bands, unit) if name in KNOWN else None
    arguments = _class_arguments(dataset_class, choice, settings, download)
    notes: list[str] = []
    splits = _open_splits(dataset_class, {**arguments, "root": data}, split, notes)
    _check_first_sample(name, splits)
    reader = _Reader(name, data, choice or choose_bands(name, bands, unit), progress)
    names = dict[str, None]()
    for torchgeo_split, dataset in splits.items():
        labels = _class_names(name, dataset, classes)
        names |= dict.fromkeys(labels)
        reader.read(SPLIT_FOLDERS[torchgeo_split], dataset, labels)
    records = reader.records
    if val and {record.split for record in records} <= {"train", "test"}:
        train = [record for record in records if record.split == "train"]
        others = [record for record in records if record.split != "train"]
        train, held_out = hold_out(train, val, seed=0)
        records = [*train, *held_out, *others]
        if held_out:
            notes.append(f"no validation split: {val:g} of each class of train is val")
    published = KNOWN[name].classes if name in KNOWN else 0
    if len(names) < published:
        notes.append(f"the folder has {len(names)} of the {published} classes")
    description = StoreDescription(
        f"{name} of TorchGeo",
        list(names),
        build.command,
        rejected=reader.rejected,
        license=license,
        notes=notes,
    )
    return build.write(records, description)


def find_torchgeo_class(name: str) -> Any:
    """Return a class of `torchgeo.datasets`, in upper or lower case.

    Raises:
        RequestError: TorchGeo has no such class, or it is no data set of labeled chips.
    """
    import torchgeo
    from torchgeo import datasets

    titles = {title.lower(): title for title in datasets.__all__}
    title = titles.get(name.lower(), "")
    dataset_class = getattr(datasets, title, None)
    kinds = datasets.NonGeoDataset | datasets.GeoDataset
    if not inspect.isclass(dataset_class) or not issubclass(dataset_class, kinds):
        raise RequestError(
            f"TorchGeo {torchgeo.__version__} has no data set called {name}",
            "NAME",
            f"choose one such as {', '.join(KNOWN)}",
        )
    if not issubclass(dataset_class, datasets.NonGeoDataset):
        raise RequestError(
            f"{title} is a GeoDataset: it is sampled from a map, and has no labeled"
            " chips",
            "NAME",
            "`rsft prepare scenes` cuts chips from scenes",
        )
    return dataset_class


def _class_arguments(
    dataset_class: Any,
    choice: BandChoice | None,
    settings: Sequence[str] | None,
    download: bool,
) -> dict[str, Any]:
    """Return the arguments of TorchGeo's class, without `root` and `split`."""
    name = dataset_class.__name__
    accepted = inspect.signature(dataset_class).parameters
    pairs = [text.partition("=") for text in settings or ()]
    arguments: dict[str, Any] = {key: value for key, _, value in pairs}
    if download and "download" not in accepted:
        page = "https://torchgeo.readthedocs.io/en/stable/api/datasets.html"
        hint = f"follow {page}#{name.lower()}, and give --data"
        raise RequestError(f"TorchGeo cannot download {name}", "--download", hint)
    if choice is not None and "bands" in accepted:
        arguments["bands"] = tuple(choice.group.bands)
    if download:
        arguments["download"] = True
    if "checksum" in accepted:
        # the default of So2Sat depends on the version of TorchGeo
        arguments["checksum"] = download
    return arguments


def _open_splits(
    dataset_class: Any,
    arguments: Mapping[str, Any],
    requested: Sequence[str] | None,
    notes: list[str],
) -> dict[str, Any]:
    """Open the splits of a data set; one without splits is the split train.

    Raises:
        RequestError: a requested split does not exist, or the folder does not contain
            the data set.
        DataError: a file cannot be read.
    """
    from torchgeo.datasets.errors import DatasetNotFoundError

    name = dataset_class.__name__
    parameter = inspect.signature(dataset_class).parameters.get("split")
    declared: Sequence[str] = ("train",)
    if parameter is not None:
        declared = get_args(parameter.annotation)
        declared = declared or getattr(dataset_class, "splits", ())
    usable = [split for split in declared or SPLIT_FOLDERS if split in SPLIT_FOLDERS]
    splits = {}
    faults = []
    refusals = []
    for split in requested or declared or SPLIT_FOLDERS:
        title = f"{name} (split {split})"
        if split not in usable:
            faults.append(f"{title} is not one of {', '.join(usable)}")
            continue
        if parameter is not None:
            arguments = {**arguments, "split": split}
        try:
            splits[split] = _open_dataset(dataset_class, arguments)
        except DatasetNotFoundError:
            faults.append(f"the folder does not contain {title}")
        # of an unknown split, or of settings
        except (AssertionError, KeyError, TypeError) as error:
            reason = str(error) or repr(error)
            refusals.append(f"TorchGeo refuses the arguments: {reason}: {title}")
    if requested or declared or not splits:  # else the splits were guessed
        faults += refusals
    if not splits or (requested and faults):
        raise RequestError(
            "; ".join(faults),
            arguments["root"],
            f"give --data or --download, and check --split and --settings; {name} of"
            " TorchGeo says what it needs",
        )
    notes += [f"left out: {fault}" for fault in faults]
    return splits


def _open_dataset(dataset_class: Any, arguments: Mapping[str, Any]) -> Any:
    """Open a data set.

    Raises:
        DatasetNotFoundError: the folder does not contain it.
        AssertionError, KeyError, TypeError: TorchGeo refuses the arguments.
        RequestError: a package is missing.
        DataError: a file cannot be read.
    """
    from torchgeo.datasets.errors import DatasetNotFoundError, DependencyNotFoundError

    name = dataset_class.__name__
    try:
        return dataset_class(**arguments)
    except DependencyNotFoundError as error:
        raise RequestError(
            " ".join(str(error).split()), name, "install this package"
        ) from error
    except (DatasetNotFoundError, AssertionError, KeyError, TypeError):
        raise
    # readers of other packages raise anything for a damaged archive, such as
    # zlib.error, pickle.UnpicklingError or struct.error
    except Exception as error:
        raise DataError(
            f"TorchGeo cannot read {name}: {error}",
            arguments["root"],
            "check the files, or download them again",
        ) from error


def _check_first_sample(name: str, splits: Mapping[str, Any]) -> None:
    """Raise RequestError if the first sample is not an image with one class."""
    import numpy as np

    datasets = list(filter(len, splits.values()))
    try:
        sample = datasets[0][0] if datasets else {}
    # readers of other packages raise anything for a damaged file, which is
    # rejected later
    except Exception:
        return
    label = np.asarray(sample.get("label"))
    has_class = label.size == 1 and label.dtype.kind in "iu"
    if has_class and np.ndim(sample.get("image", 0)) == 3:
        return
    shapes = []
    for key, value in sample.items():
        dtype = getattr(value, "dtype", type(value).__name__)
        shapes.append(f"{key} {dtype} {list(getattr(value, 'shape', ()))}")
    raise RequestError(
        f"{name} is no data set of single labels: a sample has"
        f" {', '.join(shapes) or 'nothing'}",
        "NAME",
        "choose a data set, or --settings, whose samples have an image of three"
        " dimensions and a whole number as label",
    )


def _class_names(name: str, dataset: Any, classes: Sequence[str] | None) -> list[str]:
    """Return the class names of a split; those of the user come first."""
    from rsft.data.datasets.formats.label_rows import describe_row_fault

    names = [str(label) for label in classes or getattr(dataset, "classes", None) or ()]
    fault = "" if names else f"{name} does not name its classes"
    for label in names:
        fault = fault or describe_row_fault(label, label)
    if fault:
        raise RequestError(
            fault, name, "give the names with --classes, in the order of the labels"
        )
    return names


class _Reader:
    """Make records of the samples of a data set.

    Args:
        name: TorchGeo's class.
        folder: folder of the data set.
        choice: bands to load and to store.

    Attributes:
        records: records of all splits.
        rejected: samples without a class.
    """

    def __init__(
        self, name: str, folder: Path, choice: BandChoice, progress: Progress | None
    ) -> None:
        self.folder = folder
        self.choice = choice
        self.progress = progress
        self.records: list[ChipRecord] = []
        self.rejected: list[Rejection] = []
        entry = KNOWN.get(name)
        is_resized = entry is not None and entry.resized
        self._rounds = choice.group.scale != 1 or is_resized
        self._columns: dict[str, object] = {"unit": choice.group.unit, "source": name}
        if entry is not None and entry.spacing_m:
            self._columns["spacing_m"] = entry.spacing_m

    def read(self, split: str, dataset: Any, names: Sequence[str]) -> None:
        """Add the samples of a split.

        Data sets that are no class folders are read for their labels.

        Args:
            split: the split in the chip store.
            dataset: the data set.
            names: class names in the order of the labels.
        """
        from torchvision.datasets import ImageFolder

        from rsft.data.chips.record import ChipRecord
        from rsft.data.datasets.chip_names import make_chip_names

        labels = None
        # TorchGeo names no file
        paths = [Path(self.folder, split, f"{x:06}") for x in range(len(dataset))]
        chip_names: Iterable[str] = [path.name for path in paths]
        if isinstance(dataset, ImageFolder):
            labels = dataset.targets
            paths = [Path(path) for path, _ in dataset.samples]
            chip_names = make_chip_names(paths, labels, Path(dataset.root))
        by_label = dict(enumerate(names))
        for index, (path, chip_name) in enumerate(zip(paths, chip_names, strict=True)):
            try:
                label = labels[index] if labels else dataset[index]["label"]
                label_name = by_label[int(label)]
            # readers of other packages raise anything for a damaged file
            except Exception as error:
                self.rejected.append((str(path), 0, f"no class: {error}"))
                continue
            if self.progress is not None and index % 1000 == 0:
                self.progress(index, len(paths), f"reading the labels of {split}")
            record = ChipRecord(
                chip_name,
                split,
                label_name,
                path,
                partial(self._read_pixels, dataset, index),
                bands=tuple(self.choice.group.bands.values()),
                extra_columns=self._columns,
                selected_bands=self.choice.names,
            )
            self.records.append(record)

    def _read_pixels(self, dataset: Any, index: int) -> Pixels:
        """Read the image of a sample.

        Returns:
            Pixels (H, W, B) in the unit of the bands.

        Raises:
            DataError: the image cannot be read, or its values cannot be in this unit.
        """
        import numpy as np

        from rsft.data.imagery.reader import check_values
        from rsft.data.imagery.units import DIGITAL_UNITS

        group = self.choice.group
        try:
            image = np.asarray(dataset[index]["image"], np.float32)
        # readers of other packages raise anything for a damaged file
        except Exception as error:
            raise DataError(f"TorchGeo cannot read the sample: {error}") from None
        pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
        if group.scale != 1:
            pixels = np.float32(group.scale) * pixels
        if group.unit in DIGITAL_UNITS:
            pixels = _to_whole_numbers(pixels, str(group.unit), self._rounds)
        check_values(pixels, "")
        return pixels


def _to_whole_numbers(pixels: Pixels, unit: str, rounds: bool) -> Pixels:
    """Convert pixels to an integer unit; unless `rounds` is set, they must be whole."""
    import numpy as np

    whole = np.rint(pixels)
    limits = np.iinfo(unit)
    fits = limits.min <= whole.min() <= whole.max() <= limits.max
    if fits and (rounds or np.array_equal(whole, pixels)):
        return whole.astype(unit)
    low = float(np.nanmin(pixels))
    high = float(np.nanmax(pixels))
    raise DataError(
        f"values from {low:.6g} to {high:.6g} are no {unit}; declare their unit with"
        " --unit"
    )
