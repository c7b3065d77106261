"""FUSRS v2 with both protocols, on archives of noise in the published formats."""

import json
import shutil
import sys
from functools import partial
from itertools import count, cycle, product
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from rsft.data.datasets.fusrs import LIST_VERSIONS, read_fusrs_list
from rsft.data.prepare.fusrs import prepare_fusrs
from rsft.errors import DataError, RequestError
from tests.data.datasets.fusar_ship.data import write_fusar
from tests.data.datasets.srsdd.data import write_srsdd
from tests.helpers.fusrs_data import write_for_lists
from tests.helpers.killing import kill_this_process, run_until_killed
from tests.helpers.messages import mentions

_SHIPS = (
    "Ship_C07S11N0002.png 0\nShip_C07S11N0002.png 0\nShip_C04S01N0001.png"
    " 1\nShip_C03S01N0001.png 3\n"
)
TRAIN = f"L1_1.png 0\nL2_2.png 2\n{_SHIPS}L9_1.png 0\nbroken\n"
TEST = "L1_2.png 1\nShip_C12S01N0001.png 2\nShip_C07S11N0002.png 0\n"


@pytest.fixture
def raw(tmp_path):
    """Both archives, the lists, and a name in two folders."""
    raw = tmp_path / "raw"
    names = [
        "Ship_C07S11N0002",
        "Ship_C04S01N0001",
        "Ship_C03S01N0001",
        "Ship_C12S01N0001",
        "Ship_C01S01N0001",
    ]
    write_fusar(raw / "FUSAR", names, vessels=1)
    (raw / "FUSAR/Other/Sub12").mkdir()
    pixels = np.random.default_rng(77).integers(0, 255, (16, 16), np.uint8)
    cv2.imwrite(str(raw / "FUSAR/Other/Sub12/Ship_C07S11N0002.tiff"), pixels)
    write_srsdd(raw / "SRSDD", {1: ["Container", "Fishing"], 2: ["Dredger", "Fishing"]})
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/v25_train.txt").write_text(TRAIN)
    (tmp_path / "lists/v25_test.txt").write_text(TEST)
    return raw


@pytest.fixture
def published(raw, tmp_path):
    return prepare_fusrs(
        tmp_path / "out", protocol="published", lists=tmp_path / "lists", jobs=1
    )


def rejections(store):
    table = pd.read_csv(store.root / "rejected.csv")
    return [
        (Path(row.file).name, row.line, row.reason.partition(", with")[0])
        for row in table.itertuples()
    ]


def test_published_has_one_chip_per_row_with_the_label_of_the_list(published):
    table = published.table.sort_values(["split", "name"])
    assert list(zip(table["split"], table["name"], table["class"], strict=True)) == [
        ("test", "L1_2", "fishing"),
        ("test", "Ship_C07S11N0002", "cargo"),
        ("test", "Ship_C12S01N0001", "tanker"),
        ("train", "L1_1", "cargo"),
        ("train", "L2_2", "tanker"),
        ("train", "Ship_C03S01N0001", "dredger"),
        ("train", "Ship_C04S01N0001", "fishing"),
        ("train", "Ship_C07S11N0002", "cargo"),
        ("train", "Ship_C07S11N0002__2", "cargo"),
    ]
    assert published.groups == {
        "head": ["cargo", "fishing"],
        "medium": [],
        "tail": ["tanker", "dredger"],
    }


def test_doubtful_rows_are_flagged(published):
    flags = dict(zip(published.table["name"], published.table["flags"], strict=True))
    assert flags["L2_2"] == "label-contradicts-annotation" and flags["L1_1"] == ""
    assert (
        flags["Ship_C07S11N0002__2"]
        == "repeated-row,label-contradicts-annotation,ambiguous-name"
    )


def test_rows_without_a_chip_are_rejected_with_their_line(published):
    assert rejections(published) == [
        ("v25_train.txt", 7, "L9_1 is in neither archive"),
        ("v25_train.txt", 8, "the row is not `name label`"),
    ]
    reasons = (
        "FUSAR-Ship: in no list",
        "FUSAR-Ship: another file of a listed name",
        "SRSDD: in no list",
    )
    assert published.skipped == dict.fromkeys(reasons, 1)


def test_name_stands_for_one_file_with_unchanged_pixels(published, raw):
    rows = published.table[published.table["name"].str.startswith("Ship_C07S11N0002")]
    origin = raw / "FUSAR/Other/Sub11/Ship_C07S11N0002.tiff"
    assert {(published.root / path).read_bytes() for path in rows["path"]} == {
        origin.read_bytes()
    }
    row = published.table.set_index("name").loc["Ship_C04S01N0001"]
    assert (row["sensor"], row["polarisation"], row["incidence_deg"]) == (
        "Gaofen-3",
        "DH",
        30.5,
    )


def test_audit_is_written_into_the_store(published):
    [audit] = json.loads((published.root / "audit.json").read_text("utf-8"))
    counts = {finding["what"]: finding["count"] for finding in audit["findings"]}
    repeated = "chips that repeat the content of another in their split"
    assert (
        counts["names in two splits"]
        == counts["chips with the flag repeated-row"]
        == counts[repeated]
        == 1
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_build_that_is_killed_after_its_last_step_is_done(raw, tmp_path):
    shutil.make_archive(str(tmp_path / "fusar"), "zip", raw / "FUSAR")
    build = partial(
        prepare_fusrs,
        tmp_path / "out",
        fusar=tmp_path / "fusar.zip",
        srsdd=raw / "SRSDD",
        jobs=1,
    )
    build = partial(build, allow_partial=True)

    def build_and_die():
        replace = Path.replace

        def replace_and_die(source, target):
            result = replace(source, target)
            if target == tmp_path / "out":  # the store has its name
                kill_this_process()
            return result

        Path.replace = replace_and_die
        build()

    before = {path.name for path in tmp_path.iterdir()}
    run_until_killed(build_and_die)
    left = {path.name for path in tmp_path.iterdir()} - before
    assert left >= {"out", ".out.partial", ".out-fusar.unpacked"}
    audit = tmp_path / "out/audit.json"
    text = audit.read_text("utf-8")  # before the store got its name
    assert json.loads(text)[0]["subject"] == str(tmp_path / "out")
    build()
    assert audit.read_text("utf-8") == text and {
        path.name for path in tmp_path.iterdir()
    } == before | {"out"}


def test_a_taken_root_is_refused_before_missing_archives(published, raw):
    shutil.rmtree(raw)
    with pytest.raises(RequestError, match=mentions("chip store", "exists")):
        prepare_fusrs(published.root)


@pytest.mark.slow
def test_validation_takes_whole_groups_of_the_training_rows(raw, tmp_path):
    store = prepare_fusrs(
        tmp_path / "out",
        protocol="published",
        lists=tmp_path / "lists",
        val=0.3,
        jobs=1,
    )
    counts = store.table["split"].value_counts()
    assert (
        counts["train"] + counts["val"] == 6
        and counts["test"] == 3
        and counts["val"] >= 1
    )
    repeated = store.table[
        store.table["name"].str.startswith("Ship_C07")
        & (store.table["split"] != "test")
    ]
    assert repeated["split"].nunique() == 1


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Store of 138 FUSAR-Ship chips of 46 vessels, and 40 images with three ships
    each."""
    folder = tmp_path_factory.mktemp("clean")
    codes = ["01"] * 60 + ["04"] * 24 + ["12"] * 18 + ["03"] * 30 + ["13"] * 6
    write_fusar(
        folder / "FUSAR",
        [f"Ship_C{code}S01N{index:04}" for index, code in enumerate(codes)],
    )
    write_srsdd(
        folder / "SRSDD",
        {image: ["Container", "Fishing", "ore-oil"] for image in range(40)},
    )
    return prepare_fusrs(folder / "out", jobs=1)


@pytest.fixture
def many(clean, tmp_path):
    """The archives of `clean`."""
    for name in ("FUSAR", "SRSDD"):
        shutil.copytree(clean.root.parent / name, tmp_path / name)
    return tmp_path


@pytest.mark.slow
def test_clean_splits_share_no_scene_and_no_vessel(clean):
    assert len(clean.table) == 132 + 120 and clean.skipped == {
        "FUSAR-Ship Tug: not among the classes": 6
    }
    group = clean.table["mmsi"].fillna(clean.table["name"].str.split("_").str[0])
    assert (clean.table.groupby(group)["split"].nunique() == 1).all()
    shares = clean.class_counts("test") / sum(
        clean.class_counts(split) for split in ("train", "val", "test")
    )
    assert (
        shares == pytest.approx(0.25, abs=0.06) and clean.class_counts("val").min() > 0
    )


@pytest.mark.slow
def test_clean_takes_each_content_once_and_rejects_contents_of_two_categories(many):
    fusar = many / "FUSAR"
    shutil.copy(
        fusar / "Cargo/Sub01/Ship_C01S01N0000.tiff",
        fusar / "Cargo/Sub01/Ship_C01S01N0900.tiff",
    )
    shutil.copy(
        fusar / "Cargo/Sub01/Ship_C01S01N0001.tiff",
        fusar / "Tug/Sub01/Ship_C13S01N0901.tiff",
    )
    shutil.copy(many / "SRSDD/images/3.png", many / "SRSDD/images/300.png")
    shutil.copy(many / "SRSDD/labels/3.txt", many / "SRSDD/labels/300.txt")
    store = prepare_fusrs(many / "out", jobs=1)
    assert store.skipped["FUSAR-Ship: repeated content"] == 1
    assert store.skipped["SRSDD: repeated content"] == 3
    assert rejections(store) == [
        ("Ship_C01S01N0001.tiff", 0, "the same content has the categories Cargo, Tug"),
        ("Ship_C13S01N0901.tiff", 0, "the same content has the categories Cargo, Tug"),
    ]


def write_tiles(root, size, step):
    """Cut the images below `root` into tiles with labels as mmrotate's `img_split.py`
    does."""
    for path in sorted((root / "images").iterdir()):
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        rows = [
            line.split()
            for line in (root / f"labels/{path.stem}.txt").read_text().splitlines()
        ]
        for left, top in product(range(0, image.shape[1] - size + 1, step), repeat=2):
            shifted = [
                (
                    [
                        float(x) - offset
                        for x, offset in zip(row[:8], (left, top) * 4, strict=True)
                    ],
                    row[8:],
                )
                for row in rows
            ]
            inside = [
                (box, rest)
                for box, rest in shifted
                if min(box) >= 0 and max(box) <= size
            ]
            for folder, suffix in (("images", ".png"), ("annfiles", ".txt")):
                (target := root / f"split_ss/trainval/{folder}").mkdir(
                    parents=True, exist_ok=True
                )
                name = target / f"{path.stem}__{size}__{left}___{top}{suffix}"
                if suffix == ".png":
                    cv2.imwrite(
                        str(name),
                        image[top : top + size, left : left + size],
                        [cv2.IMWRITE_PNG_COMPRESSION, 1],
                    )
                else:
                    name.write_text(
                        "".join(
                            f"{' '.join(map(str, box))} {' '.join(rest)}\n"
                            for box, rest in inside
                        )
                    )


@pytest.mark.slow
@pytest.mark.parametrize(("size", "step", "chips"), [(192, 192, 60), (128, 64, 60)])
def test_tiles_share_the_split_of_their_image(tmp_path, size, step, chips):
    write_fusar(tmp_path / "FUSAR", [f"Ship_C01S01N{index:04}" for index in range(30)])
    write_srsdd(
        tmp_path / "SRSDD",
        {image: ["Container", "Fishing", "ore-oil"] for image in range(20)},
        size=192,
    )
    write_tiles(tmp_path / "SRSDD", size, step)
    store = prepare_fusrs(tmp_path / "out", jobs=1)
    ships = store.table[store.table["source"] == "SRSDD"]
    scenes = ships["name"].str.extract(r"^L(\d+)_")[0]
    assert (
        len(set(scenes)) == 20 and (ships["split"].groupby(scenes).nunique() == 1).all()
    )
    assert size < 192 or (
        len(ships) == chips and store.skipped["SRSDD: repeated content"] == 60
    )


@pytest.mark.slow
def test_filtered_copies_with_labels_share_the_split_of_their_image(many):
    """The boxes are the same, and the pixels are not."""
    rng = np.random.default_rng(0)
    # in `write_srsdd`, images have the same boxes
    for path in sorted((many / "SRSDD/labels").iterdir()):
        x, y = rng.uniform(0, 1, 2)
        path.write_text(
            path.read_text()
            .replace("10 ", f"{10 + x:.6f} ")
            .replace("50 ", f"{50 + y:.6f} ")
        )
    shutil.move(many / "SRSDD", many / "raw/SRSDD/original")
    shutil.copytree(many / "raw/SRSDD/original", many / "raw/SRSDD/filtered")
    for path in (many / "raw/SRSDD/filtered/images").iterdir():
        cv2.imwrite(
            str(path), cv2.blur(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), (3, 3))
        )
    store = prepare_fusrs(many / "out", jobs=1)
    ships = store.table[store.table["source"] == "SRSDD"]
    numbers = ships["name"].str.extract(r"__(\d+)_png")[0]
    assert len(ships) == 240 and (ships["split"].groupby(numbers).nunique() == 1).all()
    assert ships["group_key"].nunique() == 40 and ships["split"].nunique() == 3


def test_clean_is_not_written_if_its_audit_finds_a_leak(raw, tmp_path, monkeypatch):
    shutil.copy(
        raw / "FUSAR/Cargo/Sub01/Ship_C01S01N0001.tiff",
        raw / "FUSAR/Cargo/Sub01/Ship_C01S01N0002.tiff",
    )
    monkeypatch.setattr(
        "rsft.data.datasets.same_content.symmetric_digest",
        lambda pixels: str(next(numbers)),
    )
    monkeypatch.setattr("rsft.data.datasets.same_content.find_similar", lambda *_: [])
    numbers = count()
    splits = cycle(["train", "test"])
    monkeypatch.setattr(
        "rsft.data.datasets.fusrs_protocols.split_groups",
        lambda labels, groups, *_: {group: next(splits) for group in groups},
    )
    with pytest.raises(DataError, match=mentions("1 contents in two splits")):
        prepare_fusrs(tmp_path / "out", jobs=1)
    assert not (tmp_path / "out").exists()


def write_equal_numbers(root):
    for seed, split in enumerate(("train", "test")):
        write_srsdd(
            root / split,
            {1: ["Container", "Fishing"], 2: ["Dredger", "Fishing"]},
            seed=seed,
        )


def test_splits_that_both_count_from_one(raw, tmp_path):
    shutil.rmtree(raw / "SRSDD")
    write_equal_numbers(raw / "SRSDD")
    store = prepare_fusrs(tmp_path / "out", jobs=1)
    names = sorted(store.table["name"][store.table["source"] == "SRSDD"])
    numbers = [f"{image}_png_{ship}" for image in (1, 2) for ship in (1, 2)]
    assert names == [
        f"{split}__images__{number}"
        for split in ("test", "train")
        for number in numbers
    ]
    with pytest.raises(DataError, match=mentions("L1_1", "two images")):
        prepare_fusrs(
            tmp_path / "other", protocol="published", lists=tmp_path / "lists", jobs=1
        )


@pytest.mark.slow
def test_seed_determines_every_byte(clean, many):
    again = prepare_fusrs(many / "b", jobs=2)
    assert (clean.root / "manifest.parquet").read_bytes() == (
        again.root / "manifest.parquet"
    ).read_bytes()
    other = prepare_fusrs(many / "c", seed=1, jobs=1)
    assert not other.table["path"].equals(clean.table["path"])


@pytest.mark.slow
def test_sources_are_found_by_content_or_must_be_named(many):
    (many / "FUSAR").rename(many / "下载 1")
    assert len(prepare_fusrs(many / "out", jobs=1).table) == 252
    shutil.copytree(many / "SRSDD", many / "SRSDD again")
    with pytest.raises(RequestError, match=mentions("SRSDD", "2 folders")):
        prepare_fusrs(many / "more", jobs=1)
    shutil.rmtree(many / "下载 1")
    with pytest.raises(RequestError, match=mentions("FUSAR-Ship not found", "--fusar")):
        prepare_fusrs(many / "more", jobs=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"val": 0.9}, "share is 0.9"),
        ({"classes": 3}, "unknown value 3"),
        ({"lists": Path()}, "--lists"),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path, arguments, message):
    with pytest.raises(RequestError, match=message):
        prepare_fusrs(tmp_path / "out", **arguments)


def test_failed_download_tells_how_to_get_the_lists(many, monkeypatch):
    def closed(*_, **__):
        raise DataError(
            "v25_train.txt cannot be downloaded: no network", "url", "fetch it by hand"
        )

    monkeypatch.setattr("rsft.utils.download.download", closed)
    with pytest.raises(DataError, match="by hand"):
        prepare_fusrs(many / "out", protocol="published", jobs=1)
    assert not (many / "out").exists()


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.realdata
@pytest.mark.parametrize(
    ("classes", "train", "test"), [(4, 5261, 1700), (5, 6971, 2129)]
)
def test_the_published_lists_row_for_row(shared, tmp_path, classes, train, test):
    lists = shared("fusrs_lists")
    files = [
        (lists / f"{LIST_VERSIONS[classes]}_{split}.txt", split)
        for split in ("train", "test")
    ]
    rows = [
        row for path, split in files for row in read_fusrs_list(path, split, classes)[0]
    ]
    write_for_lists(tmp_path, rows, classes)
    store = prepare_fusrs(
        tmp_path / "out", protocol="published", lists=lists, classes=classes
    )
    assert [store.class_counts(split).sum() for split in ("train", "val", "test")] == [
        train,
        0,
        test,
    ]
    assert store.rejected == 0
    flags = store.table["flags"].str.split(",")
    assert flags.map(lambda names: "repeated-row" in names).sum() == 864 + 151
    clean = prepare_fusrs(tmp_path / "clean", classes=classes)
    assert clean.table.groupby("group_key")["split"].nunique().max() == 1
