"""Builds that are killed, run twice, run out of space or lose a source give the bytes
of an undisturbed build."""

import errno
import os
import sqlite3
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from rsft.data.chips import builder, sidecars
from rsft.data.chips.builder import build_store
from rsft.data.chips.record import ChipRecord, StoreDescription
from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError, RequestError, RsftError
from rsft.utils import operating_system
from tests.helpers.killing import kill_this_process as die
from tests.helpers.killing import run_until_killed
from tests.helpers.messages import mentions

DESCRIPTION = StoreDescription(
    "tiny", ("a", "b c", "货船"), "rsft prepare tiny", rejected=[("list.txt", 2, "odd")]
)
COUNT = 60


def cut(seed, dtype="uint8", bands=1):
    return np.random.default_rng(seed).integers(0, 256, (8, 6, bands)).astype(dtype)


def fail():
    raise DataError("the box lies outside the image")


def source(folder):
    """Yield files and cut chips of three classes; every seventh is unusable."""
    for index in range(COUNT):
        label = DESCRIPTION.classes[index % 3]
        if index % 2:
            path = folder / f"{index} 图.png"
            if not path.exists():
                cv2.imwrite(str(path), cut(index)[..., 0])
            yield ChipRecord(f"{index}", "train", label, path)
        else:
            read_pixels = fail if index % 7 == 0 else partial(cut, index)
            columns = {"spacing_m": np.float32(1.1), "box": np.arange(8.0)}
            labels = folder / f"{index // 10}.txt"
            name = f"L{index // 10}_{index}"
            yield ChipRecord(
                name, "test", label, labels, read_pixels, index, extra_columns=columns
            )


def contents(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return tmp_path_factory.mktemp("raw")


@pytest.fixture(scope="module")
def undisturbed(raw):
    return contents(build_store(raw / "undisturbed", source(raw), DESCRIPTION).root)


@pytest.mark.slow
def test_processes_and_order_do_not_change_the_bytes(raw, tmp_path, undisturbed):
    two = build_store(tmp_path / "two", source(raw), DESCRIPTION, jobs=2)
    backwards = build_store(
        tmp_path / "backwards", list(source(raw))[::-1], DESCRIPTION
    )
    assert contents(two.root) == contents(backwards.root) == undisturbed
    assert (
        two.table["path"].is_monotonic_increasing
        and len(two.table) == 55
        and two.rejected == 6
    )
    assert two.table["box"].dropna().iloc[0].tolist() == list(range(8))


def build_until(root, folder, jobs, stop):
    build_store(
        root,
        source(folder),
        DESCRIPTION,
        jobs=jobs,
        progress=lambda done, *_: die() if done >= stop else None,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("jobs", "stop"), [(1, 1), (1, 40), (2, 20), (1, COUNT)])
def test_killed_build_resumes(raw, tmp_path, undisturbed, jobs, stop, caplog):
    root = tmp_path / "数据 集" / "out"
    run_until_killed(build_until, root, raw, jobs, stop)
    assert not root.exists()
    assert (
        contents(build_store(root, source(raw), DESCRIPTION, jobs=jobs).root)
        == undisturbed
    )
    assert "resuming a build that was stopped" in caplog.text
    assert list(root.parent.iterdir()) == [root]


@pytest.mark.parametrize(
    ("platform", "classes", "names", "fault"),
    [
        ("darwin", ("Cargo", "cargo"), ("1",), "Cargo and cargo are one folder"),
        ("win32", ("a", "aux"), ("1",), "Windows cannot hold the name 'aux'"),
        ("win32", ("a",), ("x", "X"), "two chips of a are called X"),
    ],
)
def test_names_that_other_systems_cannot_hold(
    tmp_path, monkeypatch, platform, classes, names, fault
):
    labels = tmp_path / "labels.txt"
    records = [
        ChipRecord(name, "train", x, labels, partial(cut, 1))
        for x in classes
        for name in names
    ]
    description = StoreDescription("tiny", classes, "rsft prepare tiny")
    with monkeypatch.context() as patch:
        patch.setattr(operating_system, "sys", SimpleNamespace(platform=platform))
        with pytest.raises(DataError, match=fault):
            build_store(tmp_path / "other", records, description)
    assert len(build_store(tmp_path / "linux", records, description).table) == len(
        records
    )


def test_a_chip_whose_name_windows_refuses_is_rejected(tmp_path, monkeypatch):
    records = [
        ChipRecord(name, "train", "a", tmp_path / "labels.txt", partial(cut, 1))
        for name in ("b:c", "d")
    ]
    monkeypatch.setattr(operating_system, "is_windows", lambda: True)
    store = build_store(
        tmp_path / "store",
        records,
        StoreDescription("tiny", ("a",), "rsft prepare tiny"),
    )
    assert store.table["name"].tolist() == ["d"]
    assert (
        "Windows cannot hold the name 'b:c'"
        in (store.root / "rejected.csv").read_text()
    )


def build_with(patched, name, action, root, folder):
    setattr(patched, name, action)  # in its own process
    build_store(root, source(folder), DESCRIPTION, overwrite=True)


def rename_and_die(source, target):
    """Stand for Path.replace, and die between the two renames that publish a store."""
    os.replace(source, target)  # stands for it  # noqa: PTH105
    if target.name == "old":
        die()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("patched", "name", "action"),
    [(builder, "write_sidecars", die), (builder, "_remove_strays", die), (builder, "write_rejected", die),
     (sidecars, "render_contact_sheet", die), (os, "sync", die), (Path, "replace", rename_and_die),
     (builder.shutil, "rmtree", die)],
)  # fmt: skip
def test_killed_in_the_last_steps(raw, tmp_path, undisturbed, patched, name, action):
    root = build_store(
        tmp_path / "home" / "out", list(source(raw))[1:2], DESCRIPTION
    ).root
    before = contents(root)
    run_until_killed(build_with, patched, name, action, root, raw)
    if root.exists():
        assert contents(root) in (before, undisturbed)
    assert (
        contents(build_store(root, source(raw), DESCRIPTION, overwrite=True).root)
        == undisturbed
    )
    assert list(root.parent.iterdir()) == [root]


@pytest.mark.slow
def test_replaced_store_is_restored_after_a_kill(raw, tmp_path):
    root = build_store(tmp_path / "out", list(source(raw))[1:2], DESCRIPTION).root
    before = contents(root)
    run_until_killed(build_with, Path, "replace", rename_and_die, root, raw)
    assert not root.exists()
    with pytest.raises(RequestError, match="already"):
        build_store(root, source(raw), DESCRIPTION)
    assert contents(root) == before


@pytest.mark.slow
def test_finished_chips_are_not_written_again(raw, tmp_path, monkeypatch):
    root = tmp_path / "out"
    run_until_killed(build_until, root, raw, 1, 40)
    written: list[Path] = []
    write = builder.write_chip
    monkeypatch.setattr(
        builder,
        "write_chip",
        lambda target, data: (written.append(target), write(target, data)),
    )
    changed = next(root.parent.glob(".out.partial/*/store/chips/train/*/1.png"))
    changed.write_bytes(b"half")
    build_store(root, source(raw), DESCRIPTION)
    assert 10 <= len(written) < 25 and any(
        path.name == changed.name for path in written
    )
    assert read_chip(root / "chips/train/b c/1.png").shape == (8, 6, 1)


def test_chips_of_changed_files_are_written_again(tmp_path):
    labels = tmp_path / "1.txt"
    images = [tmp_path / name for name in ("same.png", "swapped.png", "fixed.png")]
    for number, path in enumerate(images[:2]):
        cv2.imwrite(str(path), cut(number)[..., 0])
    images[2].write_bytes(b"half")
    cuts: list[str] = []

    def read(path):
        cuts.append(path.stem)
        return read_chip(path)

    def build(stop):
        def progress(*_):
            if stop:
                raise KeyboardInterrupt

        records = [
            ChipRecord(
                path.stem,
                "train",
                "a",
                labels,
                partial(read, path),
                line,
                image_paths=(path,),
            )
            for line, path in enumerate(images, 1)
        ]
        return build_store(
            tmp_path / "out", records, DESCRIPTION, progress=progress
        ).table

    with pytest.raises(KeyboardInterrupt):
        build(stop=True)
    cv2.imwrite(str(images[1]), cut(7)[..., 0])
    cv2.imwrite(str(images[2]), cut(8)[..., 0])
    os.utime(images[1], ns=(0, 1))
    cuts.clear()
    table = build(stop=False)
    assert cuts == ["swapped", "fixed"]
    chips = [
        read_chip(tmp_path / "out" / path)
        for path in table.set_index("name").loc[["same", "swapped"], "path"]
    ]
    np.testing.assert_array_equal(chips, [cut(0), cut(7)])
    assert table["name"].tolist() == ["fixed", "same", "swapped"]


@pytest.mark.slow
def test_build_with_other_arguments_starts_over_with_a_warning(raw, tmp_path, caplog):
    run_until_killed(build_until, tmp_path / "out", raw, 1, 40)
    other = StoreDescription("tiny", DESCRIPTION.classes, "rsft prepare tiny --seed 1")
    store = build_store(tmp_path / "out", list(source(raw))[1:2], other)
    assert (
        "unfinished job with other arguments" in caplog.text
        and "resuming" not in caplog.text
    )
    assert [path for path in contents(store.root) if path.startswith("chips/")] == [
        "chips/train/b c/1.png"
    ]


@pytest.mark.slow
def test_two_builds_at_once(raw, tmp_path):
    def second(done, *_):
        with pytest.raises(
            RequestError, match="another process is building or changing"
        ):
            build_store(tmp_path / "out", source(raw), DESCRIPTION)

    first = list(source(raw))[1:2]
    assert (
        len(build_store(tmp_path / "out", first, DESCRIPTION, progress=second).table)
        == 1
    )


@pytest.mark.slow
def test_missing_source_file_stops_the_build_until_it_is_back(
    raw, tmp_path, undisturbed
):
    lost = raw / "41 图.png"
    aside = raw / "aside"
    records = list(source(raw))
    status = lost.stat()
    lost.rename(aside)
    with pytest.raises(RsftError, match="a source file disappeared") as caught:
        build_store(tmp_path / "out", records, DESCRIPTION, jobs=2)
    assert caught.value.location == str(lost) and not (tmp_path / "out").exists()
    aside.rename(lost)
    os.utime(lost, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (
        contents(build_store(tmp_path / "out", records, DESCRIPTION).root)
        == undisturbed
    )


def test_full_disk_by_a_simulated_error(raw, tmp_path, undisturbed, monkeypatch):
    def full(target, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), target)

    with monkeypatch.context() as patch:
        patch.setattr(builder, "write_chip", full)
        with pytest.raises(RsftError, match="the disk is full") as caught:
            build_store(tmp_path / "out", source(raw), DESCRIPTION)
    assert (
        "resumes where it stopped" in caught.value.hint
        and not (tmp_path / "out").exists()
    )
    assert (
        contents(build_store(tmp_path / "out", source(raw), DESCRIPTION).root)
        == undisturbed
    )


def test_a_file_that_sqlite_cannot_open_is_no_folder_in_the_place_of_a_file(
    raw, tmp_path, monkeypatch
):
    """Such as one for sorting, in a folder that cannot be written."""

    def sort(*_):
        sqlite3.connect(tmp_path / "hidden" / "sorted")

    monkeypatch.setattr(builder, "BuildJournal", sort)
    with pytest.raises(RsftError, match="permission denied"):
        build_store(tmp_path / "out", source(raw), DESCRIPTION)


def test_folder_that_is_not_writable(raw, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RsftError, match=mentions("in the place")) as caught:
        build_store(tmp_path / "file" / "out", source(raw), DESCRIPTION)
    assert str(tmp_path / "file") in caught.value.location
    if os.geteuid() == 0:
        return  # root may write anywhere
    (tmp_path / "shut").mkdir(mode=0o500)
    with pytest.raises(RsftError, match="permission denied"):
        build_store(tmp_path / "shut" / "out", source(raw), DESCRIPTION)


def test_killed_worker(tmp_path):
    records = [ChipRecord("x", "train", "a", tmp_path / "1.txt", die)]
    with pytest.raises(RsftError, match=mentions("worker", "killed")):
        build_store(tmp_path / "out", records, DESCRIPTION, jobs=2)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_records_are_read_lazily(raw, tmp_path):
    read = [0]
    ahead = [0]

    def endless():
        for index in range(400):
            read[0] += 1
            yield ChipRecord(
                str(index), "train", "a", tmp_path / f"{index}.txt", partial(cut, index)
            )

    def progress(done, *_):
        ahead.append(read[0] - done)

    build_store(tmp_path / "out", endless(), DESCRIPTION, jobs=2, progress=progress)
    assert max(ahead) < 150


def test_same_content_under_two_names_is_two_chips(tmp_path):
    path = tmp_path / "x.png"
    cv2.imwrite(str(path), cut(0)[..., 0])
    store = build_store(
        tmp_path / "out",
        [ChipRecord(name, "train", "a", path) for name in ("x", "y")],
        DESCRIPTION,
    )
    assert store.table["sha256"].nunique() == 1 and len(store.table) == 2


def test_jobs_below_one(tmp_path):
    with pytest.raises(RequestError, match="0 jobs"):
        build_store(tmp_path / "out", [], DESCRIPTION, jobs=0)
