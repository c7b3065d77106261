"""Build chip stores of the classification data sets of TorchGeo.

TorchGeo's class gives splits, class names and samples. It states neither the unit of
the pixels nor, in most cases, the names of the bands: `KNOWN` has both, each with its
source.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rsft.data.prepare.registry import data_set, format_prepare_command
from rsft.errors import DataError, RequestError
from rsft.utils.licenses import UNKNOWN

if TYPE_CHECKING:
    from rsft.data.chips.record import ChipRecord
    from rsft.data.chips.store import ChipStore
    from rsft.types import Pixels, Progress, Rejection


@dataclass(frozen=True)
class BandGroup:
    """Bands of one unit in the images of a data set.

    Attributes:
        bands: rsft's name by TorchGeo's name, in the order of the image.
        unit: unit of the pixels; None if the publishers do not state it.
        scale: factor from TorchGeo's values to this unit; other than 1, values are
            rounded to whole numbers.
    """

    bands: Mapping[str, str]
    unit: str | None
    scale: float = 1.0


@dataclass(frozen=True)
class TorchGeoDataset:
    """What TorchGeo does not state of a data set.

    Attributes:
        classes: number of classes of the published data set.
        source: source of bands and unit.
        groups: bands by unit; the first group is the default.
        spacing_m: pixel spacing in meters; None if it varies.
        resized: whether TorchGeo resizes some images, so that their values are rounded
            again.
    """

    classes: int
    source: str
    groups: tuple[BandGroup, ...]
    spacing_m: float | None = None
    resized: bool = False


Chosen = tuple[BandGroup, tuple[str, ...]]
"""Bands to load, and rsft's names of those to store."""


def _names(*bands: str) -> dict[str, str]:
    return dict(zip(bands, bands, strict=True))


_RGB = (BandGroup(_names("R", "G", "B"), "uint8"),)
_TEN = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
_L1C = (*(f"B{number:02}" for number in range(1, 13)), "B8A")
_EUROSAT = TorchGeoDataset(
    10,
    "Helber et al. 2019, doi 10.1109/JSTARS.2019.2918242: Sentinel-2 L1C",
    (BandGroup(_names(*_L1C), "uint16"),),
    10,
)

KNOWN: dict[str, TorchGeoDataset] = {
    "ADVANCE": TorchGeoDataset(
        13, "Hu et al. 2020, doi 10.1007/978-3-030-58586-0_5", _RGB
    ),
    "CopernicusBenchEuroSATS1": TorchGeoDataset(
        10,
        "Wang et al. 2024, doi 10.1109/JSTARS.2024.3493237",
        (BandGroup(_names("VV", "VH"), None),),
        10,
    ),
    "CopernicusBenchLCZS2": TorchGeoDataset(
        17, "Wang et al. 2025, arXiv 2503.11849", (BandGroup(_names(*_TEN), None),), 10
    ),
    **dict.fromkeys(
        ("EuroSAT", "EuroSAT100", "EuroSATSpatial", "CopernicusBenchEuroSATS2"),
        _EUROSAT,
    ),
    "FireRisk": TorchGeoDataset(7, "Shen et al. 2023, arXiv 2303.07035: NAIP", _RGB, 1),
    "MillionAID": TorchGeoDataset(
        51, "Long et al. 2021, doi 10.1109/JSTARS.2021.3070368", _RGB
    ),
    "PatternNet": TorchGeoDataset(
        38, "Zhou et al. 2018, doi 10.1016/j.isprsjprs.2018.01.004", _RGB
    ),
    "RESISC45": TorchGeoDataset(
        45, "Cheng et al. 2017, doi 10.1109/JPROC.2017.2675998", _RGB
    ),
    "So2Sat": TorchGeoDataset(
        17,
        "Zhu et al. 2020, doi 10.1109/MGRS.2020.2964708: Sentinel-2 reflectance is"
        " digital numbers / 10,000; S1_B5 and S1_B6 are the intensities after the"
        " refined Lee filter",
        (
            BandGroup({f"S2_{band}": band for band in _TEN}, "uint16", 10_000.0),
            BandGroup({"S1_B5": "VH", "S1_B6": "VV"}, "intensity"),
        ),
        10,
    ),
    "UCMerced": TorchGeoDataset(
        21,
        "Yang and Newsam 2010, doi 10.1145/1869790.1869829: 1 ft",
        _RGB,
        0.3048,
        resized=True,
    ),
}
"""Bands and units by the name of TorchGeo's class. The RGB images are JPEG, PNG or TIFF
files of bytes."""

_MULTI_LABEL = (
    "BigEarthNet",
    "BigEarthNetV2",
    "CopernicusBenchBigEarthNetS1",
    "CopernicusBenchBigEarthNetS2",
)
REFUSED = {
    **dict.fromkeys(
        (*_MULTI_LABEL, "CopernicusBenchLC100ClsS3", "TreeSatAI"),
        "an image has several labels",
    ),
    "COWCCounting": "its labels are numbers of cars",
    "QuakeSet": (
        "its images are pairs of two dates, and bands of two dates have no names"
    ),
    "TropicalCyclone": "its labels are wind speeds",
}
"""Data sets that are refused before TorchGeo needs their files. Others are judged by
their first sample."""

_SPLIT_OF = {
    "train": "train",
    "val": "val",
    "validation": "val",
    "valid": "val",
    "test": "test",
}
_OTHER = "choose a data set, or --settings, with one class for each image"


def list_notes(store: ChipStore, arguments: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was chosen or is missing, from the notes of the store."""
    from rsft.data.chips.store import read_dataset

    yield from (f"note: {note}" for note in read_dataset(store.root).get("notes", ()))


@data_set("torchgeo", notes=list_notes, is_published=False)
def prepare_torchgeo(
    name: str,
    root: Path,
    data: Path = Path("data"),
    split: tuple[str, ...] | None = None,
    bands: tuple[str, ...] | None = None,
    unit: str | None = None,
    classes: tuple[str, ...] | None = None,
    settings: tuple[str, ...] | None = None,
    val: float = 0.2,
    license: str = UNKNOWN,
    download: bool = False,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Build a chip store of a classification data set of TorchGeo; docs/torchgeo.md lists those with known units.

    The splits are TorchGeo's; "validation" becomes val.

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
    from rsft.data.chips.builder import build_store, find_finished_store
    from rsft.data.chips.record import StoreDescription
    from rsft.data.datasets.splits import check_val_share, hold_out

    options = {
        "split": split,
        "bands": bands,
        "unit": unit,
        "classes": classes,
        "settings": settings,
        "val": val,
    }
    options |= {
        "license": None if license == UNKNOWN else license,
        "download": download,
        "seed": seed,
    }
    command = format_prepare_command("torchgeo", name, root=root, data=data, **options)
    finished = find_finished_store(root, command, overwrite)
    if finished:
        return finished
    check_val_share(val)
    dataset_class = find_torchgeo_class(name)
    name = dataset_class.__name__
    loaded = choose_bands(name, bands, unit) if name in KNOWN else None
    notes: list[str] = []
    arguments = {
        "root": data,
        **_class_arguments(dataset_class, loaded, settings, download),
    }
    splits = _open_splits(dataset_class, arguments, split, notes)
    _check_first_sample(name, splits)
    loaded = loaded or choose_bands(name, bands, unit)
    names: list[str] = []
    records: list[ChipRecord] = []
    rejected: list[Rejection] = []
    for torchgeo_split, dataset in splits.items():
        labels = _class_names(name, dataset, classes)
        names += [label for label in labels if label not in names]
        records += _iter_records(
            name,
            _SPLIT_OF[torchgeo_split],
            dataset,
            labels,
            loaded,
            data,
            rejected,
            progress,
        )
    if val and "train" in splits and not {"val", "validation", "valid"} & splits.keys():
        train, held_out = hold_out(
            [record for record in records if record.split == "train"], val, seed
        )
        records = [
            *train,
            *held_out,
            *(record for record in records if record.split != "train"),
        ]
        notes.append(f"no validation split: {val:g} of each class of train is val")
    published = KNOWN[name].classes if name in KNOWN else 0
    if len(names) < published:
        notes.append(f"the folder has {len(names)} of the {published} classes")
    title = f"{name} of TorchGeo"
    description = StoreDescription(
        title, names, command, rejected=rejected, license=license, notes=notes
    )
    return build_store(
        root, records, description, overwrite=overwrite, progress=progress
    )


def find_torchgeo_class(name: str) -> Any:
    """Return a class of `torchgeo.datasets`, in upper or lower case.

    Raises:
        RequestError: TorchGeo has no such class, or it is no data set of labeled chips.
    """
    import torchgeo
    from torchgeo import datasets

    names = {title.lower(): title for title in datasets.__all__}
    title = names.get(name.lower(), "")
    dataset_class = getattr(datasets, title, None)
    if not (
        inspect.isclass(dataset_class)
        and issubclass(dataset_class, datasets.NonGeoDataset | datasets.GeoDataset)
    ):
        closest = [
            names[match]
            for match in difflib.get_close_matches(name.lower(), names, n=3)
        ]
        raise RequestError(
            f"TorchGeo {torchgeo.__version__} has no data set called {name}",
            "NAME",
            f"choose one of {', '.join(closest or KNOWN)}",
        )
    if not issubclass(dataset_class, datasets.NonGeoDataset):
        raise RequestError(
            (
                f"{title} is a GeoDataset: it is sampled from a map, and has no labeled"
                " chips"
            ),
            "NAME",
            "`rsft prepare scenes` cuts chips from scenes",
        )
    if title in REFUSED:
        raise RequestError(
            f"{title} is no data set of single labels: {REFUSED[title]}", "NAME", _OTHER
        )
    return dataset_class


def choose_bands(name: str, bands: Sequence[str] | None, unit: str | None) -> Chosen:
    """Return the bands to load and to store.

    Args:
        name: TorchGeo's class.
        bands: requested bands, by the name of rsft or TorchGeo; of an unknown data set
            all bands in order.
        unit: unit to declare; None takes the known one.

    Returns:
        The bands to load, and rsft's names of those to store.

    Raises:
        RequestError: a band is no band of this data set, bands of different units are
            requested, or unit or bands are unknown.
    """
    from rsft.data.imagery.bands import check_bands
    from rsft.data.imagery.units import UNITS, parse_unit

    entry = KNOWN.get(name)
    try:
        unit = unit and parse_unit(unit)
    except DataError as error:
        raise RequestError(
            error.message, "--unit", "correct the name of the unit"
        ) from error
    if entry is None or (unit is None and entry.groups[0].unit is None):
        missing = [] if entry or bands else ["its bands"]
        missing += [] if unit else ["the unit of its pixels"]
        if missing:
            flags = "--unit" if entry else "--unit and --bands"
            if entry:
                example = "--unit sigma0"
            else:
                example = "--unit uint8 --bands R,G,B"
            raise RequestError(
                f"rsft does not know {' and '.join(missing)}",
                name,
                f"give {flags}, such as {example}; the units are {', '.join(UNITS)}",
            )
        check_bands(bands or ())
        if entry is None:
            return BandGroup(_names(*(bands or ())), unit), tuple(bands or ())
    for group in entry.groups:
        names = tuple(group.bands.get(band, band) for band in bands or group.bands)
        if set(names) <= set(group.bands.values()):
            check_bands(names)
            return (BandGroup(group.bands, unit) if unit else group), names
    offers = "; or ".join(
        f"{', '.join(group.bands.values())} ({group.unit or unit})"
        for group in entry.groups
    )
    raise RequestError(
        (
            f"{name} has no chips of {', '.join(bands or ())}: the bands of a chip have one"
            " unit"
        ),
        "--bands",
        f"choose from {offers}",
    )


def _class_arguments(
    dataset_class: Any,
    bands: Chosen | None,
    settings: Sequence[str] | None,
    download: bool,
) -> dict[str, Any]:
    """Return the arguments of TorchGeo's class, without `root` and `split`."""
    name = dataset_class.__name__
    accepted = inspect.signature(dataset_class).parameters
    pairs = dict(text.partition("=")[::2] for text in settings or ())
    free = [
        key
        for key in accepted
        if key not in ("root", "split", "bands", "transforms", "download", "checksum")
    ]
    wrong = [key for key in pairs if key not in free]
    if wrong:
        if free:
            hint = f"it takes {', '.join(free)}, as KEY=VALUE"
        else:
            hint = "leave out --settings"
        raise RequestError(
            f"{name} has no setting {', '.join(wrong)}", "--settings", hint
        )
    if download and "download" not in accepted:
        hint = (
            "follow"
            f" https://torchgeo.readthedocs.io/en/stable/api/datasets.html#{name.lower()},"
            " and give --data"
        )
        raise RequestError(f"TorchGeo cannot download {name}", "--download", hint)
    arguments: dict[str, Any] = dict(pairs)
    if bands is not None and "bands" in accepted:
        arguments["bands"] = tuple(bands[0].bands)
    if download:
        arguments["download"] = True
    if "checksum" in accepted:
        arguments["checksum"] = (
            download  # the default of So2Sat depends on the version of TorchGeo
        )
    return arguments


def _open_splits(
    dataset_class: Any,
    arguments: Mapping[str, Any],
    requested: Sequence[str] | None,
    notes: list[str],
) -> dict[str, Any]:
    """Open the splits of a data set; without a parameter `split`, all samples are the split train.

    Raises:
        RequestError: a requested split does not exist, or the folder does not contain
            the data set.
        DataError: a file cannot be read.
    """
    name = dataset_class.__name__
    parameter = inspect.signature(dataset_class).parameters.get("split")
    if parameter:
        declared = list(
            get_args(parameter.annotation) or getattr(dataset_class, "splits", ())
        )
    else:
        declared = ["train"]
    candidates = list(requested or declared or dict.fromkeys(_SPLIT_OF))
    wrong = [
        split
        for split in candidates
        if split not in (declared or _SPLIT_OF) or split not in _SPLIT_OF
    ]
    if wrong and requested:
        hint = (
            "choose from"
            f" {', '.join(split for split in declared or _SPLIT_OF if split in _SPLIT_OF)}"
        )
        raise RequestError(
            f"{name} has no split {', '.join(wrong)} for a chip store", "--split", hint
        )
    if wrong:
        notes.append(
            f"left out: the splits {', '.join(wrong)}, which are neither train, val nor"
            " test"
        )
    splits = {}
    faults = dict[str, list[str]]()
    for split in (split for split in candidates if split not in wrong):
        try:
            splits[split] = _open_dataset(
                dataset_class, {**arguments, **({"split": split} if parameter else {})}
            )
        except FileNotFoundError:
            faults.setdefault(f"the folder does not contain {name}", []).append(split)
        except (
            AssertionError,
            KeyError,
            TypeError,
        ) as error:  # of an unknown split, or of settings
            if declared or requested:
                faults.setdefault(
                    f"TorchGeo refuses the arguments: {str(error) or repr(error)}", []
                ).append(split)
    reasons = [
        f"{text} (split {', '.join(names)})" if parameter else text
        for text, names in faults.items()
    ]
    if not splits or (requested and faults):
        hint = (
            f"give --data or --download, and check --split and --settings; {name} of"
            " TorchGeo says what it needs"
        )
        raise RequestError(
            (
                "; ".join(reasons)
                or f"TorchGeo opens no split of {name} with these arguments"
            ),
            arguments["root"],
            hint,
        )
    notes += [f"left out: {reason}" for reason in reasons]
    return splits


def _open_dataset(dataset_class: Any, arguments: dict[str, Any]) -> Any:
    """Open a data set; raise FileNotFoundError if the folder does not contain it."""
    from torchgeo.datasets.errors import DatasetNotFoundError, DependencyNotFoundError

    from rsft.data.datasets.source_errors import translate_dataset_errors

    name = dataset_class.__name__
    try:
        with translate_dataset_errors(
            name, Path(arguments["root"]), "check the files, or download them again"
        ):
            return dataset_class(**arguments)
    except DependencyNotFoundError as error:
        raise RequestError(
            " ".join(str(error).split()), name, "install this package"
        ) from error
    except RequestError as error:
        if isinstance(error.__cause__, DatasetNotFoundError):
            raise FileNotFoundError(name) from error
        raise
    except (AssertionError, KeyError, TypeError, DataError):
        raise
    except Exception as error:  # a damaged archive raises anything
        raise DataError(
            f"TorchGeo cannot read {name}: {error}",
            arguments["root"],
            "download it again",
        ) from error


def _check_first_sample(name: str, splits: Mapping[str, Any]) -> None:
    """Raise RequestError if the first sample is not an image with one class."""
    import numpy as np

    dataset = next((dataset for dataset in splits.values() if len(dataset)), None)
    try:
        sample = {} if dataset is None else dataset[0]
    except Exception:  # a damaged file, which is rejected later
        return
    fault = ""
    keys = ", ".join(sorted(sample))
    if not {"image", "label"} <= sample.keys():
        if "mask" in keys:
            task = "segmentation"
        else:
            task = "detection" if "box" in keys else "another task"
        fault = f"a sample has {keys or 'nothing'}, not image and label ({task})"
    elif (label := np.asarray(sample["label"])).dtype.kind not in "iu":
        fault = f"its labels are of the type {label.dtype} (regression)"
    elif label.size != 1:
        fault = f"a sample has {label.size} labels (multi-label)"
    elif np.ndim(sample["image"]) != 3:
        fault = (
            f"an image has {np.ndim(sample['image'])} dimensions, not bands, height and"
            " width (time series)"
        )
    if fault:
        raise RequestError(
            f"{name} is no data set of single labels: {fault}", "NAME", _OTHER
        )


def _class_names(name: str, dataset: Any, classes: Sequence[str] | None) -> list[str]:
    """Return the class names of a split in the order of its labels; those of the user come first."""
    from rsft.data.datasets.formats.label_rows import describe_row_fault

    names = [str(label) for label in classes or getattr(dataset, "classes", None) or ()]
    faults = [fault for label in names if (fault := describe_row_fault(label, label))]
    if faults or not names:
        if faults:
            message = faults[0]
        else:
            message = f"{name} does not name its classes"
        raise RequestError(
            message, name, "give the names with --classes, in the order of the labels"
        )
    return names


def _iter_records(
    name: str,
    split: str,
    dataset: Any,
    names: Sequence[str],
    loaded: Chosen,
    folder: Path,
    rejected: list[Rejection],
    progress: Progress | None,
) -> Iterator[ChipRecord]:
    """Yield the samples of a split as records.

    Data sets that are no class folders are read for their labels.
    """
    from torchvision.datasets import ImageFolder

    from rsft.data.chips.record import ChipRecord
    from rsft.data.datasets.chip_names import make_chip_names

    count, (group, selected), entry = len(dataset), loaded, KNOWN.get(name)
    labels = None
    paths = [
        Path(folder, split, f"{index:06}") for index in range(count)
    ]  # TorchGeo names no file
    if isinstance(dataset, ImageFolder):
        labels = dataset.targets
        paths = [Path(path) for path, _ in dataset.samples]
    chip_names = make_chip_names(
        paths, labels or [split] * count, Path(getattr(dataset, "root", folder))
    )
    columns: dict[str, object] = {"unit": group.unit, "source": name}
    columns |= {"spacing_m": entry.spacing_m} if entry and entry.spacing_m else {}
    rounds = group.scale != 1 or bool(entry and entry.resized)
    bands = tuple(group.bands.values())
    for index, (path, chip_name) in enumerate(zip(paths, chip_names, strict=True)):
        if progress is not None and not labels and index % 1000 == 0:
            progress(index, count, f"reading the labels of {split}")
        try:
            if labels:
                label = labels[index]
            else:
                label = int(dataset[index]["label"])
            label_name = names[label if label >= 0 else len(names)]
        except Exception as error:  # code of others on a damaged file raises anything
            rejected.append((str(path), 0, f"no class: {error}"))
            continue
        read = partial(_read_pixels, dataset, index, group, rounds)
        yield ChipRecord(
            chip_name, split, label_name, path, read, 0, bands, columns, (), selected
        )


def _read_pixels(dataset: Any, index: int, group: BandGroup, rounds: bool) -> Pixels:
    """Read the image of a sample.

    Returns:
        Pixels (H, W, B) in the unit of the group.

    Raises:
        DataError: the image cannot be read, or its values cannot be in this unit.
    """
    import numpy as np

    from rsft.data.imagery.reader import check_values
    from rsft.data.imagery.units import DIGITAL_UNITS

    try:
        image = np.asarray(dataset[index]["image"], np.float32).transpose(1, 2, 0)
    except Exception as error:  # code of others on a damaged file raises anything
        raise DataError(f"TorchGeo cannot read the sample: {error}") from None
    pixels = np.ascontiguousarray(
        image if group.scale == 1 else np.float32(group.scale) * image
    )
    if group.unit in DIGITAL_UNITS:
        whole = np.rint(pixels)
        limits = np.iinfo(str(group.unit))
        fits = limits.min <= whole.min() <= whole.max() <= limits.max
        if not fits or not (rounds or np.array_equal(whole, pixels)):
            low = float(np.nanmin(pixels))
            high = float(np.nanmax(pixels))
            raise DataError(
                f"values from {low:.6g} to {high:.6g} are no {group.unit}; declare"
                " their unit with --unit"
            )
        pixels = whole.astype(group.unit)
    check_values(pixels, "")
    return pixels
