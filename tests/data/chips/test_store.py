"""Chip stores: chips come back unchanged, inputs are rejected or counted, existing
folders are not overwritten."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rsft.data.chips import store as store_module
from rsft.data.chips.builder import build_store
from rsft.data.chips.class_names import missing_classes
from rsft.data.chips.manifest import SCHEMA
from rsft.data.chips.record import ChipRecord, StoreDescription
from rsft.data.chips.store import ChipStore, summarize_pixels
from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError, RequestError
from tests.helpers.messages import mentions

LEFT_OUT = {"skipped": {"not an image": 2}, "rejected": [("labels.txt", 3, "odd")]}
DESCRIPTION = StoreDescription("tiny", ("b", "a"), "rsft prepare tiny", **LEFT_OUT)


def chip(seed, dtype="uint8", bands=1):
    return np.random.default_rng(seed).integers(0, 256, (6, 5, bands)).astype(dtype)


def records(folder):
    """Two image files and two chips cut from larger images, of classes a and b."""
    for name, dtype in (("x.PNG", "uint8"), ("y.tiff", "uint16")):
        Image.fromarray(chip(1, dtype)[..., 0]).save(folder / name)
    columns = {
        "mmsi": "900000001",
        "spacing_m": 1.5,
        "box": [0.0] * 8,
        "flags": "category-index",
    }
    return [
        ChipRecord("x", "train", "a", folder / "x.PNG", extra_columns=columns),
        ChipRecord("y", "test", "b", folder / "y.tiff"),
        ChipRecord("L1_1", "train", "b", folder / "1.txt", lambda: chip(2), 4),
        ChipRecord("L1_2", "val", "a", folder / "1.txt", lambda: chip(3, "uint16"), 5),
    ]


@pytest.fixture
def store(tmp_path):
    return build_store(tmp_path / "store", records(tmp_path), DESCRIPTION)


@pytest.mark.slow
def test_files_are_copied_byte_for_byte_and_cut_chips_keep_their_pixels(
    tmp_path, store
):
    assert (store.root / "chips/train/a/x.png").read_bytes() == (
        tmp_path / "x.PNG"
    ).read_bytes()
    cut = read_chip(store.root / "chips/val/a/L1_2.png")
    assert cut.dtype == np.uint16
    np.testing.assert_array_equal(cut, chip(3, "uint16"))


def test_manifest_describes_each_chip(store):
    assert list(store.table.columns) == SCHEMA.names
    row = store.table.set_index("path").loc["chips/train/a/x.png"]
    assert (row["class"], row["unit"], row["bands"], row["mmsi"]) == (
        "a",
        "uint8",
        "gray",
        "900000001",
    )
    assert (row["group"], row["spacing_m"], row["flags"], list(row["box"])) == (
        "tail",
        1.5,
        "category-index",
        [0] * 8,
    )
    assert len(row["sha256"]) == 64


def test_store_is_queried_by_split(store):
    assert store.classes == ("b", "a") and store.groups == {
        "head": [],
        "medium": [],
        "tail": ["b", "a"],
    }
    assert store.class_counts("train").tolist() == [1, 1] and store.class_counts(
        "val"
    ).tolist() == [0, 1]
    assert store.split("test")["name"].tolist() == ["y"] and store.units == (
        "uint16",
        "uint8",
    )
    assert store.skipped == {"not an image": 2} and store.rejected == 1


def test_sizes_are_those_of_some_chips(store, monkeypatch):
    count = len(store.split("train"))
    assert store.sample_sides("train") == [6] * count and count > 1
    monkeypatch.setattr(store_module, "MAX_SAMPLED_SIDES", 1)
    assert store.sample_sides("train") == [6]


def test_a_changed_split_leaves_that_of_the_store(store):
    rows = store.split("train")
    rows["class"] = "changed"
    assert "changed" not in set(store.split("train")["class"])


def test_license_of_the_data(tmp_path, store):
    assert store.license == "unknown"
    metadata = json.loads((store.root / "dataset.json").read_text())
    del metadata["license"]
    (store.root / "dataset.json").write_text(json.dumps(metadata))
    assert ChipStore.open(store.root).license == "unknown"
    licensed = replace(DESCRIPTION, license="CC-BY-NC-4.0")
    store = build_store(tmp_path / "licensed", records(tmp_path), licensed)
    assert store.license == "CC-BY-NC-4.0"
    assert (
        json.loads((store.root / "dataset.json").read_text())["license"]
        == "CC-BY-NC-4.0"
    )
    assert (
        "License of the data: CC-BY-NC-4.0 (non-commercial)."
        in (store.root / "README.md").read_text()
    )


def test_rejected_inputs_are_listed_with_a_reason(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"text")

    def outside():
        raise DataError("the box lies outside the image")

    more = [
        ChipRecord("bad", "train", "a", tmp_path / "bad.png"),
        ChipRecord("out", "train", "a", tmp_path / "1.txt", outside, 7),
        ChipRecord(
            "float", "train", "a", tmp_path / "1.txt", lambda: chip(0, "float32"), 8
        ),
        ChipRecord(
            "two", "train", "a", tmp_path / "1.txt", lambda: chip(0, bands=2), 9
        ),
        ChipRecord(
            "rgb", "train", "a", tmp_path / "1.txt", lambda: chip(0, bands=3), 10
        ),
    ]
    store = build_store(tmp_path / "store", records(tmp_path) + more, DESCRIPTION)
    rows = (
        pd.read_csv(store.root / "rejected.csv").set_index("line")["reason"].to_dict()
    )
    assert rows[7] == "the box lies outside the image" and rows[8].startswith(
        "float32 pixels"
    )
    assert rows[9].startswith("2 bands") and rows[3] == "odd"
    assert len(store.table) == 4 and store.rejected == 6
    assert not (store.root / "chips/train/a/rgb.png").exists()
    assert rows[10] == "R,G,B, but most chips have gray"
    readme = (store.root / "README.md").read_text()
    assert (
        "lists 6 inputs that cannot be used" in readme
        and "- category-index: 1" in readme
    )


def test_texts_of_a_store_are_neither_html_nor_formulas(tmp_path):
    names = ("<img src=x onerror=alert(1)>", "a|b", "=1+1")
    rows = [
        replace(record, label=name)
        for record, name in zip(records(tmp_path) * 3, names, strict=False)
    ]
    rejected = [("=cmd|'x'", 1, "@no")]
    description = StoreDescription(
        "<script>x</script>", names, "rsft prepare `x` <b>", rejected=rejected
    )
    store = build_store(tmp_path / "store", rows, description)
    readme = (store.root / "README.md").read_text()
    assert (
        "<img" not in readme
        and "<script>" not in readme
        and "| &lt;img src=x onerror=alert(1)&gt; |" in readme
    )
    assert (
        r"| a\|b |" in readme
        and "| =1+1 |" in readme
        and "made by `` rsft prepare `x` <b> ``." in readme
    )
    assert pd.read_csv(store.root / "rejected.csv").iloc[0].tolist() == [
        "'=cmd|'x'",
        1,
        "'@no",
    ]


def test_failed_build_leaves_no_folder(tmp_path):
    twice = [*records(tmp_path), records(tmp_path)[0]]
    with pytest.raises(DataError, match=mentions("two chips of a", "called x")):
        build_store(tmp_path / "store", twice, DESCRIPTION)
    with pytest.raises(DataError, match=mentions("no chip")):
        build_store(tmp_path / "store", [], DESCRIPTION)
    assert not any(path.is_dir() for path in tmp_path.iterdir())


def test_overwrite_replaces_a_store_but_no_other_folder(tmp_path, store):
    with pytest.raises(RequestError, match=mentions("chip store", "exists")):
        build_store(store.root, records(tmp_path), DESCRIPTION)
    assert (
        len(
            build_store(
                store.root, records(tmp_path)[:1], DESCRIPTION, overwrite=True
            ).table
        )
        == 1
    )
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(RequestError, match=mentions("not a chip store")):
        build_store(tmp_path / "photos", records(tmp_path), DESCRIPTION, overwrite=True)
    assert (tmp_path / "photos" / "holiday.jpg").exists()


def test_progress_reaches_the_total(tmp_path):
    seen: list[tuple[int, int, str]] = []
    build_store(
        tmp_path / "store",
        records(tmp_path),
        DESCRIPTION,
        progress=lambda *step: seen.append(step),
    )
    assert seen[-1] == (4, 4, "writing chips")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("manifest.parquet", b"PAR1"),
        *(("dataset.json", x) for x in (b"{", b"{}", b"[" * 100_000, b"[]", b'"x"')),
    ],
    ids=range(6),
)
def test_damaged_store_is_an_error(store, file, content):
    (store.root / file).write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read|damaged") as caught:
        ChipStore.open(store.root)
    assert caught.value.location == str(store.root / file)
    (store.root / file).unlink()
    with pytest.raises(
        RequestError, match=mentions(f"{file} is missing", "rsft prepare")
    ):
        ChipStore.open(store.root)


def test_missing_columns_and_unknown_classes_are_named(store):
    store.table.drop(columns=["unit", "mmsi"]).to_parquet(
        store.root / "manifest.parquet"
    )
    with pytest.raises(DataError, match="no column unit, mmsi"):
        ChipStore.open(store.root)
    store.table.to_parquet(store.root / "manifest.parquet")
    metadata = json.loads((store.root / "dataset.json").read_text())
    (store.root / "dataset.json").write_text(json.dumps(metadata | {"classes": ["b"]}))
    with pytest.raises(DataError, match=mentions("unknown classes a")):
        ChipStore.open(store.root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": "ba"}, "classes"),
        ({"classes": [1, 2]}, "classes.0"),
        ({"groups": {"head": ["x"]}}, "name the unknown classes x"),
        ({"skipped": {"a": "x"}}, "skipped.a"),
        ({"pending": 1}, "is damaged: pending"),
        (
            {"pending": {"manifest_sha256": "0"}},
            "is damaged: pending.dataset.json",
        ),
        ({"command": 1}, "command"),
        ({"additions": {}}, "additions"),
        (
            {
                "additions": [
                    {
                        "date": "2026-11-26",
                        "table": "t.csv",
                        "added": [],
                        "relabeled": [{}],
                    }
                ]
            },
            "additions.0.rel",
        ),
    ],
)
def test_a_wrong_key_of_the_description_is_named(store, change, message):
    metadata = json.loads((store.root / "dataset.json").read_text())
    (store.root / "dataset.json").write_text(json.dumps(metadata | change))
    with pytest.raises(DataError, match=message):
        ChipStore.open(store.root)


@pytest.mark.parametrize(
    ("content", "count"),
    [(b"", 0), (b"\xff\xfe", 0), (b"file,line,reason\na.png,0,\xff\n", 1), (b"file,line,reason\na,1,b,c,d\ne\n\n", 2),
     (b"file,line,reason\n" + b"x" * 200_000 + b",1,y\n", 1)],
)  # fmt: skip
def test_rejected_inputs_are_counted_whatever_they_are(store, content, count):
    (store.root / "rejected.csv").write_bytes(content)
    assert ChipStore.open(store.root).rejected == count


def cut(low, dtype, side):
    return (np.arange(side * (side + 1), dtype=dtype) + low).reshape(side, side + 1, 1)


@pytest.fixture
def varied(tmp_path):
    labels = tmp_path / "1.txt"
    records = [
        ChipRecord("1", "train", "a", labels, partial(cut, 0, "uint8", 3)),
        ChipRecord("2", "train", "船", labels, partial(cut, 10, "uint8", 5)),
        ChipRecord(
            "3",
            "test",
            "a",
            labels,
            partial(cut, -9, "float32", 3),
            extra_columns={"unit": "db"},
        ),
    ]
    return build_store(
        tmp_path / "out", records, StoreDescription("x", ("a", "船", "never"), "x")
    )


def test_missing_classes_are_named_if_they_have_chips_elsewhere(varied):
    counts = varied.counts
    assert counts["train"] == {"a": 1, "船": 1, "never": 0} and not any(
        counts["val"].values()
    )
    assert missing_classes(counts) == {"test": ["船"]}
    assert "lacks:\n\n- test: 船\n" in (varied.root / "README.md").read_text("utf-8")


@pytest.mark.slow
def test_pixels_by_unit_and_dtype(varied):
    summary = summarize_pixels(varied.root, varied.table).to_dict("index")
    file_bytes = sum(
        (varied.root / path).stat().st_size for path in varied.split("train")["path"]
    )
    assert list(summary) == ["db float32", "uint8"]
    sizes = {
        "chips": 2,
        "shortest": 3,
        "longest": 6,
        "lowest": 0,
        "highest": 39,
        "bytes": file_bytes,
    }
    assert summary["uint8"] == sizes | {
        "mean": pytest.approx((12 * 5.5 + 30 * 24.5) / 42)
    }
    assert (summary["db float32"]["lowest"], summary["db float32"]["highest"]) == (
        -9,
        2,
    )
