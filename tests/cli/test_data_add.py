"""`rsft data add`: what it prints, and its JSON line."""

import json
import os

import cv2
import numpy as np
import pytest

from rsft.data.chips.store import ChipStore
from rsft.data.prepare.image_folder import prepare_folder
from rsft.errors import RequestError
from rsft.utils.remote_files import NO_SERVERS


@pytest.fixture
def labels(tmp_path):
    """Make a store of gray chips with the classes cargo and tug, and a table of three
    new chips."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(("cargo", "tug", "new")):
        folder = tmp_path / ("source" if number < 2 else "") / name
        folder.mkdir(parents=True)
        for index in range(3):
            cv2.imwrite(
                str(folder / f"{index}.png"), rng.integers(0, 255, (8, 8), np.uint8)
            )
    prepare_folder(tmp_path / "source", tmp_path / "store", val=0)
    rows = [
        "path,class,verdict",
        "new/0.png,cargo,class",
        "new/1.png,,not a target",
        "new/2.png,,unsure",
    ]
    (tmp_path / "corrected.csv").write_text("\n".join(rows))
    return tmp_path / "store", tmp_path / "corrected.csv"


@pytest.mark.slow
def test_lines(rsft, labels):
    code, printed = rsft("data", "add", *labels)
    assert (
        code == 0
        and "1  cargo to train" in printed
        and "not a target (--not-a-target CLASS" in printed
    )
    assert "7 chips do not name their scene" in printed
    code, printed = rsft("data", "add", *labels)
    assert (
        code == 0
        and "nothing changed" in printed
        and len(ChipStore.open(labels[0]).table) == 7
    )
    code, printed = rsft("data", "add", *labels, "--not-a-target", "clutter")
    assert (
        code == 2 and "no class clutter" in printed and "--new-class clutter" in printed
    )


@pytest.mark.slow
def test_json(rsft, labels):
    code, printed = rsft(
        "data",
        "add",
        *labels,
        "--not-a-target",
        "clutter",
        "--new-class",
        "clutter",
        "--json",
    )
    event = json.loads(printed.splitlines()[-1])
    assert code == 0 and (
        event["event"],
        event["added"],
        event["unsure"],
        event["not_a_target"],
    ) == ("done", 2, 1, 1)
    assert ChipStore.open(labels[0]).classes == ("cargo", "tug", "clutter")
    labels[1].write_text("path,class\nnew/9.png,cargo\n")
    code, printed = rsft("data", "add", *labels, "--json")
    event = next(json.loads(line) for line in printed.splitlines() if '"error"' in line)
    assert (
        code == 1
        and event["event"] == "error"
        and "none of the 1 labels" in event["message"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("is_link", [False, True])
def test_a_table_brings_no_private_file_into_the_store(
    rsft, labels, monkeypatch, is_link
):
    store = labels[0]
    private = store.parent / "home/private.png"
    private.parent.mkdir()
    cv2.imwrite(
        str(private), np.random.default_rng(9).integers(0, 255, (8, 8), np.uint8)
    )
    delivered = store.parent / "delivered"
    delivered.mkdir()
    (delivered / "link.png").symlink_to(private)
    (delivered / "c.csv").write_text(
        f"path,class\n{'link.png' if is_link else private},cargo\n"
    )
    before = sorted(store.rglob("*"))
    code, printed = rsft("data", "add", store, delivered / "c.csv")
    assert code == 2 and ("link.png" if is_link else "private.png") in printed
    assert (
        f"--source {private.parent}" in printed and sorted(store.rglob("*")) == before
    )
    monkeypatch.setattr("rsft.utils.cell.named.TRUSTED", (private.parent,))
    assert rsft("data", "add", store, delivered / "c.csv")[0] == 0
    monkeypatch.setattr("rsft.utils.cell.named.TRUSTED", ())
    code, printed = rsft(
        "data", "add", store, delivered / "c.csv", "--source", private.parent
    )
    assert code == 0 and "nothing changed" in printed


@pytest.mark.parametrize(
    ("options", "refuses"),
    [([], True), (["--source", "https://example.com/scenes"], False)],
)
def test_servers_are_refused_unless_an_option_names_one(
    rsft, labels, monkeypatch, options, refuses
):
    monkeypatch.setenv(NO_SERVERS, "-")  # as `rsft` sets it
    monkeypatch.setattr("rsft.corrections.add.add_corrections", refuse)
    code, _ = rsft("data", "add", *labels, *options)
    assert code == 2 and (os.environ.get(NO_SERVERS) == "-") is refuses


def refuse(*_):
    raise RequestError("no labels are added here")
