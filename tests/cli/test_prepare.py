"""Warnings of `rsft prepare folder` about the classes."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

Command = Callable[..., tuple[int, str]]


def write_labels(folder, counts):
    rows = ["path,class"]
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        for number in range(count):
            cv2.imwrite(
                str(folder / f"{name}{number}.png"),
                rng.integers(0, 256, (8, 8), np.uint8),
            )
            rows.append(f"{name}{number}.png,{name}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder / "labels.csv"


@pytest.mark.slow
def test_label_typo_is_counted(rsft, tmp_path):
    labels = write_labels(tmp_path, {"Cargo": 20, "Crago": 1, "Tanker": 5})
    code, printed = rsft("prepare", "folder", labels, "--root", tmp_path / "out")
    assert (
        code == 0
        and "warning: Crago (1 of 26 chips) may be a typo of Cargo (20)\n" in printed
    )
    assert (
        "warning: no chip in val: Crago; validation and calibration do not see these"
        " classes\n" in printed
    )


def test_single_class_is_named(rsft, tmp_path):
    labels = write_labels(tmp_path, {"Cargo": 5})
    code, printed = rsft("prepare", "folder", labels, "--root", tmp_path / "out")
    assert (
        code == 0
        and "warning: all chips have the class Cargo; `rsft finetune` needs at least two"
        in printed
    )


def test_several_scenes(rsft, tmp_path):
    names = [tmp_path / "a.tif", tmp_path / "b.tif"]
    code, printed = rsft(
        "prepare",
        "scenes",
        *names,
        "--at",
        tmp_path / "x.gpkg",
        "--root",
        tmp_path / "out",
    )
    assert (
        code == 2
        and "no such scene" in printed
        and "a.tif" in printed
        and "extra argument" not in printed
    )
