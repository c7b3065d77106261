"""Chip stores of TorchGeo's classification data sets, with toy classes, and with
TorchGeo's own test data."""

import json
import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar, Literal
from zipfile import BadZipFile

import numpy as np
import pytest
import rasterio
import torch
import torchgeo.datasets
from PIL import Image
from torchgeo.datasets import (
    DatasetNotFoundError,
    NonGeoClassificationDataset,
    NonGeoDataset,
    So2Sat,
)

from rsft.data.chips.store import ChipStore
from rsft.errors import DataError, RequestError
from rsft.plugins.torchgeo_datasets.bands import KNOWN, choose_bands
from rsft.plugins.torchgeo_datasets.prepare import (
    find_torchgeo_class,
    prepare_torchgeo,
)
from tests.helpers.messages import mentions
from tests.helpers.style import ROOT

pytestmark = pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning"
)

RNG = np.random.default_rng(0)


def gray(value=0):
    return torch.from_numpy(RNG.integers(value, value + 50, (2, 6, 6))).float()


class Toy(NonGeoDataset):
    """Ten samples per split of two bands, in classes "sea/ice" and "land" unless a test
    says otherwise."""

    classes: tuple[str, ...] = ("sea", "land")
    samples: ClassVar[dict[str, list[dict[str, object]]]] = {}

    def __init__(
        self, root="data", split="train", level="1", transforms=None, download=False
    ):
        if split not in ("train", "validation", "test", "extra"):
            raise AssertionError(split)
        if split not in self.samples:
            raise DatasetNotFoundError(self)
        self.root = root
        self.rows = self.samples[split]
        self.level = level

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row = self.rows[index]
        if isinstance(row.get("image"), Exception):
            raise row["image"]
        return row


def rows(count, **changes):
    return [
        {"image": gray(), "label": torch.tensor(index % 2)} | changes
        for index in range(count)
    ]


@pytest.fixture
def toy(monkeypatch):
    """Publish `Toy` in TorchGeo; return the class."""
    monkeypatch.setattr(torchgeo.datasets, "Toy", Toy, raising=False)
    monkeypatch.setattr(
        torchgeo.datasets, "__all__", (*torchgeo.datasets.__all__, "Toy")
    )
    monkeypatch.setattr(
        Toy, "samples", {"train": rows(10), "validation": rows(4), "test": rows(4)}
    )
    return Toy


def prepare(tmp_path, name="toy", **options):
    return prepare_torchgeo(
        name,
        tmp_path / "store",
        **{"data": tmp_path, "unit": "uint8", "bands": ("VV", "VH")} | options,
    )


def read(store, split, number=0):
    row = store.split(split).iloc[number]
    with rasterio.open(store.root / row["path"]) as file:
        return row, file.read()


def test_splits_classes_and_pixels_are_those_of_torchgeo(toy, tmp_path):
    store = prepare(tmp_path)
    assert (
        store.classes == ("sea", "land")
        and store.bands == ("VV", "VH")
        and store.units == ("uint8",)
    )
    assert store.table.groupby(["split", "class"]).size().to_dict() == {
        **{
            ("test", "land"): 2,
            ("test", "sea"): 2,
            ("train", "land"): 5,
            ("train", "sea"): 5,
        },
        **{("val", "land"): 2, ("val", "sea"): 2},
    }
    for index, row in store.split("train").iterrows():
        sample = toy.samples["train"][int(row["name"])]
        assert row["class"] == toy.classes[int(sample["label"])]
        _, pixels = read(store, "train", index)
        np.testing.assert_array_equal(pixels, sample["image"])
    assert prepare(tmp_path).table.equals(store.table)  # the same command again


def test_only_the_requested_splits_and_bands_are_stored(toy, tmp_path):
    store = prepare(tmp_path, split=("train", "test"), val=0.0)
    assert set(store.table["split"]) == {"train", "test"}
    with pytest.raises(
        RequestError, match=mentions("(split extra) is not one of", "--split")
    ):
        prepare(tmp_path / "b", split=("extra",))
    del toy.samples["test"]
    with pytest.raises(RequestError, match=mentions("Toy (split test)", tmp_path)):
        prepare(tmp_path / "b", data=tmp_path, split=("train", "test"))
    notes = json.loads((prepare(tmp_path / "b").root / "dataset.json").read_text())[
        "notes"
    ]
    assert notes == ["left out: the folder does not contain Toy (split test)"]


def test_a_missing_validation_split_is_drawn_from_train(toy, tmp_path):
    del toy.samples["validation"]
    store = prepare(tmp_path)
    assert store.table["split"].value_counts().to_dict() == {
        "train": 8,
        "test": 4,
        "val": 2,
    }
    missing, drawn = json.loads((store.root / "dataset.json").read_text())["notes"]
    assert (
        "does not contain Toy (split validation)" in missing
        and "no validation split" in drawn
    )


def test_samples_that_cannot_be_used_are_counted(toy, tmp_path):
    bad: list[dict[str, object]] = [
        {"image": gray(), "label": torch.tensor(2)},
        {"image": gray(), "label": torch.tensor(-1)},
        {"image": gray() / 255, "label": torch.tensor(0)},
        {"image": gray(250), "label": torch.tensor(0)},
        {"image": torch.ones(2, 6, 6), "label": torch.tensor(0)},
        {"image": gray()[:1], "label": torch.tensor(0)},
        {"image": OSError("truncated"), "label": torch.tensor(0)},
        {"image": SyntaxError("broken PNG"), "label": torch.tensor(0)},
        {"image": gray(), "label": torch.tensor([0, 1])},
    ]
    toy.samples["train"] += bad
    store = prepare(tmp_path)
    assert len(store.split("train")) == 10 and store.rejected == len(bad)
    text = (store.root / "rejected.csv").read_text()
    assert (
        text.count("no class") == 5
        and text.count("declare their unit with --unit") == 2
    )
    assert (
        "every pixel is 1" in text
        and "1 bands, but names for 2 (VV, VH)" in text
        and "truncated" in text
    )


def test_a_data_set_without_usable_chips_is_an_error(toy, tmp_path):
    toy.samples.update(train=rows(2, image=gray() / 255), validation=[], test=[])
    with pytest.raises(
        DataError, match=mentions("no chip can be used", "2 rejected", "--unit")
    ):
        prepare(tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"label": torch.tensor([1, 0, 1])}, "label torch.int64 [3]"),
        ({"label": torch.tensor(0.5)}, "label torch.float32 []"),
        ({"image": torch.ones(3, 2, 6, 6)}, "image torch.float32 [3, 2, 6, 6]"),
    ],
)
def test_other_tasks_are_refused_with_the_reason(toy, tmp_path, changes, reason):
    toy.samples["train"] = rows(2, **changes)
    with pytest.raises(RequestError, match=mentions("Toy", reason)):
        prepare(tmp_path, unit=None, bands=None)  # before its unit is asked for
    for key in ("mask", "bbox_xyxy"):
        toy.samples["train"] = [{"image": gray(), key: torch.zeros(1)}]
        with pytest.raises(RequestError, match=mentions("Toy", key)):
            prepare(tmp_path)


def test_unit_bands_and_class_names_are_asked_for_once(toy, tmp_path, monkeypatch):
    with pytest.raises(
        RequestError, match=mentions("its bands and the unit")
    ) as caught:
        prepare(tmp_path, unit=None, bands=None)
    assert (
        "--unit" in caught.value.hint
        and "--bands" in caught.value.hint
        and "sigma0" in caught.value.hint
    )
    with pytest.raises(RequestError, match="unknown unit watts"):
        prepare(tmp_path, unit="watts")
    with pytest.raises(RequestError, match="B99 is not a band"):
        prepare(tmp_path, bands=("B99", "VV"))
    for classes in ((), ("sea/ice", "land")):
        monkeypatch.setattr(toy, "classes", classes)
        with pytest.raises(RequestError) as caught:
            prepare(tmp_path)
        assert "--classes" in caught.value.hint
    store = prepare(tmp_path, classes=("ice", "land"), unit="amplitude")
    assert store.classes == ("ice", "land") and store.units == ("amplitude",)


def refuse(self, root="data", split="train"):
    raise AssertionError("level")


def damage(self, root="data", split="train"):
    raise BadZipFile("File is not a zip file")


def test_settings_reach_the_class_and_wrong_ones_are_refused(
    toy, tmp_path, monkeypatch
):
    with pytest.raises(RequestError, match=mentions("lvl", "--settings")):
        prepare(tmp_path, settings=("lvl=2",))
    assert len(prepare(tmp_path, settings=("level=2",)).table) == 18
    monkeypatch.setattr(toy, "__init__", refuse)
    with pytest.raises(
        RequestError, match=mentions("refuses the arguments: level", tmp_path)
    ):
        prepare(tmp_path / "b", split=("train",))
    with pytest.raises(RequestError, match=mentions("refuses the arguments")):
        prepare(tmp_path / "b")
    monkeypatch.setattr(toy, "__init__", damage)
    with pytest.raises(
        DataError, match=mentions("cannot read Toy", "not a zip file", tmp_path)
    ):
        prepare(tmp_path / "b")
    with pytest.raises(
        RequestError, match=mentions("cannot download So2Sat", "--download")
    ):
        prepare(tmp_path / "b", "So2Sat", unit=None, bands=None, download=True)


def test_unknown_names_and_data_sets_of_maps_are_refused(tmp_path):
    with pytest.raises(RequestError, match="no data set called EuroSATT"):
        find_torchgeo_class("EuroSATT")
    with pytest.raises(RequestError, match=mentions("NAIP is a GeoDataset")):
        find_torchgeo_class("NAIP")
    for name in ("BoundingBoxes", "DatasetNotFoundError"):
        with pytest.raises(RequestError, match="no data set called"):
            find_torchgeo_class(name)
    with pytest.raises(
        RequestError, match=mentions("does not contain EuroSAT", tmp_path)
    ) as caught:
        prepare_torchgeo("eurosat", tmp_path / "store", tmp_path)
    assert "--download" in caught.value.hint


class Folders(NonGeoClassificationDataset):
    """Class folders, with declared splits."""

    def __init__(
        self,
        root="data",
        split: Literal["train", "val", "unlabeled"] = "train",
        download=False,
    ):
        super().__init__(root=Path(root, split))


@pytest.mark.slow
def test_class_folders_keep_their_file_names(monkeypatch, tmp_path, rsft):
    monkeypatch.setattr(torchgeo.datasets, "UCMerced", type("UCMerced", (Folders,), {}))
    for path in (
        "train/a/x.png",
        "train/a/y.png",
        "train/b/x.png",
        "val/a/z.png",
        "val/b/z.png",
    ):
        (tmp_path / "in" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 255, (6, 6, 3), np.uint8)).save(
            tmp_path / "in" / path
        )
    (tmp_path / "in/val/b/broken.png").write_bytes(b"\x89PNG")
    code, text = rsft(
        "prepare", "torchgeo", "UCMerced", "--root", "out", "--data", "in"
    )
    assert (
        code == 0
        and "2 of the 21 classes" in text
        and "left out: UCMerced (split unlabeled) is not one of train, val" in text
    )
    names = sorted(
        path.relative_to("out/chips").as_posix()
        for path in Path("out/chips").rglob("*.png")
    )
    assert names == [
        "train/a/x.png",
        "train/a/y.png",
        "train/b/x.png",
        "val/a/z.png",
        "val/b/z.png",
    ]
    np.testing.assert_array_equal(
        Image.open("out/chips/val/b/z.png"), Image.open("in/val/b/z.png")
    )
    assert (
        "in/val/b/broken.png,0,TorchGeo cannot read the sample"
        in Path("out/rejected.csv").read_text()
    )
    assert set(ChipStore.open(Path("out")).table["spacing_m"]) == {0.3048}


@pytest.mark.slow
def test_so2sat_has_digital_numbers_or_intensities(monkeypatch, tmp_path):
    """TorchGeo's class, with a reader in place of h5py, which is no dependency."""
    content = {
        "label": np.eye(17, dtype=np.uint8)[[3, 16]],
        "sen1": RNG.gamma(1, 0.1, (2, 32, 32, 8)),
        "sen2": RNG.integers(1, 28_000, (2, 32, 32, 10)) / 10_000,
    }

    class File(dict[str, np.ndarray]):
        def __init__(self, path, mode="r"):
            super().__init__(content)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    monkeypatch.setitem(sys.modules, "h5py", SimpleNamespace(File=File))
    for name in ("training", "validation", "testing"):
        (tmp_path / f"{name}.h5").write_bytes(b"\x89HDF")
    store = prepare_torchgeo("So2Sat", tmp_path / "s2", tmp_path)
    assert (
        store.units == ("uint16",)
        and store.classes == So2Sat.classes
        and len(store.table) == 6
    )
    row, pixels = read(store, "val", 0)
    expected = (
        np.rint(10_000 * content["sen2"][int(row["name"])])
        .astype(np.uint16)
        .transpose(2, 0, 1)
    )
    np.testing.assert_array_equal(pixels, expected)
    assert row["spacing_m"] == 10
    radar = prepare_torchgeo("So2Sat", tmp_path / "s1", tmp_path, bands=("VV", "S1_B5"))
    row, pixels = read(radar, "train", 0)
    assert radar.bands == ("VV", "VH") and radar.units == ("intensity",)
    np.testing.assert_allclose(
        pixels,
        content["sen1"][int(row["name"])][:, :, [5, 4]].transpose(2, 0, 1),
        rtol=1e-6,
    )
    with pytest.raises(RequestError, match=mentions("VV, B02", "one unit")) as caught:
        choose_bands("So2Sat", ("VV", "B02"), None)
    assert "(intensity)" in caught.value.hint
    assert choose_bands("So2Sat", ("VH",), "sigma0").group.unit == "sigma0"


CHECKED = {
    "ADVANCE": ("advance", "black images", {}),
    "CopernicusBenchEuroSATS1": (
        "copernicus/l2_eurosat_s1s2",
        "",
        {"train": 1, "val": 1, "test": 1},
    ),
    "CopernicusBenchEuroSATS2": (
        "copernicus/l2_eurosat_s1s2",
        "",
        {"train": 1, "val": 1, "test": 1},
    ),
    "CopernicusBenchLCZS2": (
        "copernicus/l3_lcz_s2",
        "h5py",
        {"train": 2, "val": 2, "test": 2},
    ),
    "EuroSAT": ("eurosat", "", {"train": 2, "val": 2, "test": 2}),
    "EuroSAT100": ("eurosat", "", {"train": 2, "val": 2, "test": 2}),
    "EuroSATSpatial": ("eurosat", "", {"train": 2, "val": 2, "test": 2}),
    "FireRisk": ("fire_risk", "", {"train": 5, "val": 5}),
    "MillionAID": ("millionaid", "", {"train": 2, "test": 2}),
    "PatternNet": ("patternnet", "", {"train": 4, "val": 2}),
    "RESISC45": ("resisc45", "", {"train": 9, "val": 9, "test": 9}),
    "So2Sat": ("so2sat", "h5py", {"train": 2, "val": 2, "test": 2}),
    "UCMerced": ("ucmerced", "", {"train": 4, "val": 4, "test": 4}),
}
"""Folder in tests/data of TorchGeo, what the test needs or what the images are, and
number of chips by split."""


@pytest.mark.torchgeo
@pytest.mark.parametrize("name", CHECKED)
def test_torchgeos_own_test_data_become_chips(name, tmp_path):
    checkout = Path(os.environ.get("RSFT_TORCHGEO", ""))
    folder, condition, counts = CHECKED[name]
    if not (checkout / "tests/data" / folder).is_dir():
        pytest.skip("no checkout of TorchGeo: set RSFT_TORCHGEO to its folder")
    if condition == "h5py":
        pytest.importorskip("h5py")
    source = tmp_path / "source"  # TorchGeo extracts archives there
    shutil.copytree(checkout / "tests/data" / folder, source)
    if name == "ADVANCE":
        for archive in source.glob("*.zip"):
            torchgeo.datasets.utils.extract_archive(archive)
        with pytest.raises(DataError, match=mentions("every pixel is 0")):
            prepare_torchgeo(name, tmp_path / "store", source)
        return
    unit = None if KNOWN[name].groups[0].unit else "sigma0"
    store = prepare_torchgeo(name, tmp_path / "store", source, unit=unit)
    assert (
        store.table["split"].value_counts().to_dict() == counts and store.rejected == 0
    )
    group = KNOWN[name].groups[0]
    assert store.bands == tuple(group.bands.values()) and store.units == (
        group.unit or "sigma0",
    )
    dataset = find_torchgeo_class(name)(source)
    _, pixels = read(store, "train")
    images = [
        dataset[index]["image"].numpy() * group.scale for index in range(len(dataset))
    ]
    assert any(
        np.array_equal(pixels, np.rint(image) if group.unit else image)
        for image in images
    )


def test_the_documentation_lists_the_table():
    text = (ROOT / "docs/torchgeo.md").read_text("utf-8")
    listed = re.findall(
        r"^\| `(\w+)` \| (\d+) \| ([^|]*) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$",
        text,
        re.MULTILINE,
    )
    assert [tuple(map(str.strip, cells)) for cells in listed] == [
        describe(name) for name in sorted(KNOWN)
    ]


def describe(name):
    """Return the cells of a row of the table in the documentation."""
    known = KNOWN[name]
    _, condition, _ = CHECKED[name]
    bands = "; ".join(", ".join(group.bands.values()) for group in known.groups)
    units = "; ".join(group.unit or "asked for" for group in known.groups)
    tested = {
        "": "TorchGeo's test data",
        "h5py": "TorchGeo's test data, with h5py",
    }.get(condition)
    return (
        name,
        str(known.classes),
        bands,
        units,
        known.source,
        tested or f"TorchGeo's test data ({condition})",
    )
