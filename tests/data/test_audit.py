"""Audit of chips: each fault occurs once and is found once."""

import shutil

import cv2
import numpy as np
import pytest

from rsft.data.audit import audit_folder, audit_store
from rsft.data.chips.builder import build_store
from rsft.data.chips.record import ChipRecord, StoreDescription
from tests.helpers.scenes import write_geotiff


def speckle(seed):
    """(64, 64) gamma speckle around a bright bar that `seed` places."""
    rng = np.random.default_rng(seed)
    image = rng.gamma(4, 8, (64, 64))
    image[rng.integers(8, 50) :][:6, 10:50] += 120
    return np.clip(image, 0, 255).astype(np.uint8)


def positive_counts(audit):
    return {
        finding.description: finding.count
        for finding in audit.findings
        if finding.count
    }


def write(folder, **images):
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        cv2.imwrite(str(folder / f"{name}.png"), image)


def test_each_fault_is_found(tmp_path):
    twin = speckle(1)
    twin[0, 0] ^= 1
    bright = np.where(speckle(9) > 30, 255, speckle(9)).astype(np.uint8)
    write(
        tmp_path / "train/a",
        one=speckle(1),
        two=speckle(2),
        again=speckle(2),
        flat=np.full((64, 64), 7, np.uint8),
    )
    write(tmp_path / "train/b", three=speckle(3))
    write(tmp_path / "val/a", one=speckle(4), copy=speckle(2), near=twin, bright=bright)
    write(tmp_path / "val/b", conflict=speckle(4))
    (tmp_path / "val/b/cut.png").write_bytes(
        (tmp_path / "val/b/conflict.png").read_bytes()[:200]
    )
    write_geotiff(
        tmp_path / "val/b/infinite.tif",
        np.where(np.eye(64), np.inf, 1).astype(np.float32),
    )
    audit = audit_folder(tmp_path)
    assert positive_counts(audit) == {
        "names in two splits": 1,
        "chips that repeat the content of another in their split": 2,
        "contents in two splits (also turned or mirrored)": 1,
        "contents in two classes": 1,
        "pairs of near-duplicates across splits (also turned or mirrored)": 1,
        "chips that are constant or cannot be read": 3,
        "chips with 25% of the pixels saturated": 1,
    }
    near = next(finding for finding in audit.findings if "near" in finding.description)
    assert near.examples == ("a/one (train) ~ a/near (val)",)
    assert not audit.is_clean and audit.classes["a"]["all"] == {"train": 4, "val": 4}


def test_clean_chips_are_clean(tmp_path):
    for index in range(6):
        write(
            tmp_path / ("val" if index > 3 else "train") / "ab"[index % 2],
            **{f"i{index}": speckle(index)},
        )
    assert audit_folder(tmp_path).is_clean
    write(tmp_path / "train/c", other=speckle(9))
    assert positive_counts(audit_folder(tmp_path)) == {
        "classes without a chip in a split": 1
    }
    assert audit_folder(tmp_path).findings[-1].examples == ("c (val)",)


@pytest.fixture
def store(tmp_path):
    """Three chips of two vessels, one of them in two splits, y altered after the
    build."""
    write(tmp_path / "raw", x=speckle(1), y=speckle(2), z=speckle(3))
    rows = [("x", "train", "v1"), ("y", "test", "v1"), ("z", "test", "v2")]
    records = [
        ChipRecord(
            name,
            split,
            "a",
            tmp_path / f"raw/{name}.png",
            extra_columns={"mmsi": vessel, "group_key": vessel},
        )
        for name, split, vessel in rows
    ]
    store = build_store(
        tmp_path / "store", records, StoreDescription("test", ["a"], "none")
    )
    shutil.copy(tmp_path / "raw/x.png", store.root / store.table["path"].iloc[0])
    return store


def test_store_is_compared_with_its_manifest(store):
    audit = audit_store(store)
    assert positive_counts(audit)["vessels (MMSI) in two splits"] == 1
    assert positive_counts(audit)["chips whose file differs from the manifest"] == 1


def test_shared_scenes_and_their_test_chips(store):
    by_description = {
        finding.description: finding for finding in audit_store(store).findings
    }
    assert by_description["scenes or vessels in two splits"].examples == ("v1",)
    leaking = by_description["test chips of a scene or vessel of another split"]
    assert (leaking.count, leaking.total, leaking.examples) == (1, 2, ("y",))


def test_processes_do_not_change_the_result(tmp_path):
    write(tmp_path / "a", x=speckle(1), y=speckle(2))
    assert audit_folder(tmp_path, jobs=2) == audit_folder(tmp_path)


def test_turned_copies_are_one_content(tmp_path):
    """Also in another format, whose file differs; copies as JPEG have other pixels, and
    are near-duplicates."""
    write(
        tmp_path / "train/a",
        one=speckle(1),
        two=speckle(2),
        three=speckle(3),
        four=speckle(4),
    )
    write(
        tmp_path / "val/a",
        turned=np.rot90(speckle(1)),
        mirrored=speckle(2)[::-1],
        other=speckle(8),
    )
    cv2.imwrite(str(tmp_path / "val/a/format.tif"), speckle(3).T)
    cv2.imwrite(
        str(tmp_path / "val/a/jpeg.jpg"),
        np.fliplr(speckle(4)),
        [cv2.IMWRITE_JPEG_QUALITY, 90],
    )
    audit = audit_folder(tmp_path)
    assert positive_counts(audit) == {
        "contents in two splits (also turned or mirrored)": 3,
        "pairs of near-duplicates across splits (also turned or mirrored)": 1,
    }
    assert audit.leaks == ["3 contents in two splits (also turned or mirrored)"]
    near = next(finding for finding in audit.findings if "near" in finding.description)
    assert near.examples == ("a/four (train) ~ a/jpeg (val)",)
