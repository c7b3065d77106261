"""Layouts of FUSAR-Ship and SRSDD that are met in the wild: each gives the right store,
or an error."""

import shutil
from collections import Counter
from itertools import product

import numpy as np
import pytest
from PIL import Image

from rsft.data.prepare.fusrs import prepare_fusrs
from rsft.errors import DataError, RequestError
from tests.data.datasets.fusar_ship.data import make_names, write_chip, write_fusar
from tests.data.datasets.srsdd.data import write_srsdd
from tests.helpers.messages import mentions

pytestmark = pytest.mark.slow

NAMES = make_names(
    {"Cargo": 16, "Fishing": 8, "Tanker": 6, "Dredger": 4, "Other": 9, "SAR": 3}
)
"""46 chips of FUSAR-Ship, 34 of them in the four classes."""

RIGHT = {"cargo": 16, "fishing": 8, "tanker": 6, "dredger": 4}


@pytest.fixture
def raw(tmp_path):
    """SRSDD with 20 ships, and the folder for FUSAR-Ship beside it."""
    write_srsdd(
        tmp_path / "SRSDD", {image: ["Container", "ore-oil"] for image in range(10)}
    )
    return tmp_path


def build(raw, **options):
    return prepare_fusrs(raw / "out", jobs=1, **options)


def fusar_counts(store):
    return Counter(store.table["class"][store.table["source"] == "FUSAR-Ship"])


def rename_categories(root, names):
    moved = [
        (path.rename(path.with_name("_" + path.name)), path)
        for path in root.iterdir()
        if path.is_dir()
    ]
    for temporary, path in moved:
        temporary.rename(path.with_name(names.get(path.name, path.name)))


def as_published(raw):
    write_fusar(raw / "FUSAR-Ship1.0", NAMES)


def in_a_folder_called_sar(raw):
    root = write_fusar(raw / "高分辨率船只数据集FUSAR-Ship1.0/SAR", NAMES)
    (root / "meta.csv").rename(root.parent / "meta.csv")


def in_raw(raw):
    (raw / "raw").mkdir()
    (raw / "SRSDD").rename(raw / "raw/SRSDD")
    write_fusar(raw / "raw/SAR", NAMES)


def with_three_equal_bands(raw):
    for path in write_fusar(raw / "FUSAR", NAMES, suffix=".png").rglob("*.png"):
        Image.fromarray(
            np.repeat(np.asarray(Image.open(path))[:, :, None], 3, axis=2)
        ).save(path)


def in_train_and_test(raw):
    write_fusar(raw / "FUSAR/SAR/train", NAMES[:20])
    write_fusar(raw / "FUSAR/SAR/test", NAMES[20:])


@pytest.mark.slow
@pytest.mark.parametrize(
    "write",
    [
        as_published,
        in_a_folder_called_sar,
        in_raw,
        with_three_equal_bands,
        in_train_and_test,
    ],
)
def test_layouts_give_the_same_chips(raw, write):
    write(raw)
    store = build(raw, classes=5)
    assert fusar_counts(store) == RIGHT | {"other": 12} and len(store.table) == 46 + 20
    assert (
        set(store.table["flags"]) == {""}
        and store.rejected == 0
        and store.table["mmsi"].notna().sum() == 46
    )


def test_other_categories_are_counted(raw):
    as_published(raw)
    store = build(raw)
    assert fusar_counts(store) == RIGHT
    assert store.skipped == {
        f"FUSAR-Ship {x}: not among the classes": count
        for x, count in (("Other", 9), ("SAR", 3))
    }


def test_png_copies_beside_the_originals_are_left_out(raw):
    write_fusar(raw / "FUSAR/tiff", NAMES)
    write_fusar(raw / "FUSAR/png", NAMES, suffix=".png")
    store = build(raw)
    assert (
        fusar_counts(store) == RIGHT
        and store.skipped["FUSAR-Ship: copy of a chip in another format"] == 46
    )
    assert set(
        store.table["path"][store.table["source"] == "FUSAR-Ship"].map(
            lambda path: path[-5:]
        )
    ) == {".tiff"}


@pytest.mark.parametrize("is_flat", [True, False])
def test_folders_without_a_category_take_it_from_the_names(raw, is_flat):
    root = write_fusar(raw / "FUSAR", NAMES, suffix=".png")
    for path in root.rglob("*.png") if is_flat else ():  # as the authors have it
        path.rename(root / path.name)
    rename_categories(root, {"Cargo": "货船", "Fishing": "渔船"})
    store = build(raw)
    assert fusar_counts(store) == RIGHT and set(store.table["flags"]) == {
        "",
        "category-from-name",
    }
    assert not is_flat or store.table["mmsi"].notna().sum() == 34


def test_most_names_contradict_their_folder(raw):
    root = write_fusar(raw / "FUSAR", NAMES)
    names = {"Cargo": "Tanker", "Fishing": "Dredger"}
    rename_categories(root, names | {other: name for name, other in names.items()})
    with pytest.raises(
        DataError, match=mentions("6 of 6", "contradict", "--allow-partial")
    ):
        build(raw)
    assert not (raw / "out").exists()
    assert fusar_counts(build(raw, allow_partial=True)) == {
        "cargo": 6,
        "tanker": 16,
        "fishing": 4,
        "dredger": 8,
    }


def test_one_category_in_the_folder_of_another(raw):
    """All dredgers are below Other, as in a copy with few classes; the other categories
    are right."""
    root = write_fusar(raw / "FUSAR", NAMES)
    shutil.move(root / "Dredger", root / "Other/Dredgers and so on")
    with pytest.raises(
        DataError,
        match=mentions("4 of 4", "Dredger", "Ship_C03S01N0000", "--allow-partial"),
    ):
        build(raw)
    assert not (raw / "out").exists()


def test_categories_that_seem_to_be_renumbered(raw):
    names = ("Cargo", "Dredger", "Fishing", "Tanker")
    for number, index in product(range(1, 5), range(3)):
        write_chip(
            raw / f"FUSAR/Class{number}/Ship_C{number:02}S01N{index:04}.tiff",
            seed=number * 99 + index,
        )
    with pytest.raises(DataError, match=mentions("C01 to C04", "renumbered")):
        build(raw)
    for number, category in enumerate(names, 1):
        (raw / f"FUSAR/Class{number}").rename(raw / f"FUSAR/{category}")
    with pytest.raises(DataError, match=mentions("3 of 3 file names of DiveVessel")):
        build(raw)
    assert fusar_counts(build(raw, allow_partial=True)) == dict.fromkeys(RIGHT, 3)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_a_constant_band_of_opacity_is_dropped_and_told(raw, mode):
    fusar = write_fusar(raw / "FUSAR", NAMES, suffix=".png")
    srsdd = raw / "SRSDD"
    for path in (*sorted(fusar.rglob("*.png"))[:9], *sorted(srsdd.rglob("*.png"))[:2]):
        Image.open(path).convert(mode).save(path)
    store = build(raw)
    assert (
        fusar_counts(store) == RIGHT
        and len(store.table) == 34 + 20
        and store.rejected == 0
    )
    assert Counter(store.table["flags"]) == {"": 45, "alpha-dropped": 9}
    assert store.skipped["SRSDD: opacity band of an image"] == 2
    for name, path in store.table.set_index("name")["path"][
        lambda paths: paths.str.contains("/Ship_C01")
    ].items():
        original = np.asarray(
            Image.open(fusar / f"Cargo/Sub01/{name}.png").convert("L")
        )
        np.testing.assert_array_equal(
            np.asarray(Image.open(store.root / path)), original
        )


@pytest.mark.parametrize(
    ("edit", "reasons"),
    [
        (
            lambda row: row.encode("utf-16"),
            ["10 rejected: the file is not UTF-8 text", "SRSDD/labels/0.txt"],
        ),
        (
            lambda row: " ".join(row.split()[8:] + row.split()[:8]).encode(),
            ["20 rejected", "SRSDD/labels/0.txt:1"],
        ),
        (
            lambda row: row.replace(" ", ",").encode(),
            ["20 rejected: the row is not 8 numbers", "SRSDD/labels/0.txt:1"],
        ),
        (
            lambda row: " ".join(row.split()[4:]).encode(),
            ["20 rejected: the row is not 8 numbers", "SRSDD/labels/0.txt:1"],
        ),
        (
            lambda row: b"0 0.5 0.5 0.1 0.1\n",
            ["does not contain SRSDD", "10 x label file in another format"],
        ),
    ],
)
def test_the_reasons_of_a_refusal_are_told(raw, edit, reasons):
    as_published(raw)
    for path in (raw / "SRSDD/labels").iterdir():
        rows = path.read_text().splitlines()
        path.write_bytes(
            edit("\n".join(rows))
            if edit(rows[0])[:2] == b"\xff\xfe"
            else b"\n".join(map(edit, rows))
        )
    with pytest.raises((DataError, RequestError), match=mentions(*reasons)):
        build(raw, fusar=raw / "FUSAR-Ship1.0", srsdd=raw / "SRSDD")


@pytest.mark.parametrize("missing", ["FUSAR-Ship", "SRSDD"])
@pytest.mark.parametrize("is_damaged", [True, False])
def test_a_source_without_a_chip_of_the_classes(raw, missing, is_damaged):
    write_fusar(
        raw / "FUSAR",
        make_names({"Tug": 3}) if missing == "FUSAR-Ship" and not is_damaged else NAMES,
    )
    if is_damaged:
        for path in (raw / missing.removesuffix("-Ship")).rglob(
            "*.tiff" if missing == "FUSAR-Ship" else "*.png"
        ):
            path.write_bytes(path.read_bytes()[:40])
    elif missing == "SRSDD":
        shutil.rmtree(raw / "SRSDD")
        write_srsdd(raw / "SRSDD", {1: ["LawEnforce"]})
    with pytest.raises(
        DataError, match=mentions(f"{missing} gives no chip", "--allow-partial")
    ):
        build(raw)
    assert not (raw / "out").exists()
    store = build(raw, allow_partial=True)
    assert (
        missing not in set(store.table["source"])
        and "--allow-partial" in (store.root / "README.md").read_text()
    )


def test_one_source_alone(raw):
    with pytest.raises(
        RequestError, match=mentions("FUSAR-Ship not found", "--allow-partial")
    ):
        build(raw)
    store = build(raw, allow_partial=True)
    assert set(store.table["source"]) == {"SRSDD"} and len(store.table) == 20
