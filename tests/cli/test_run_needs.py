"""`rsft finetune RECIPE --dry-run` says what a run needs, and writes nothing."""

import re
from pathlib import Path

import pytest

from rsft.cli import run_needs

pytestmark = pytest.mark.slow


def read_rows(printed):
    """Return status and value by check."""
    rows = re.findall(r"^(ok|warn|fail) +(\S.*?)  +(\S.*?) *$", printed, re.MULTILINE)
    return {name: (status, value) for status, name, value in rows}


def test_nothing_is_missing(rsft, recipe_file, root):
    code, printed = rsft("finetune", recipe_file, "train.precision=fp32", "--dry-run")
    rows = read_rows(printed)
    assert code == 0 and {status for status, _ in rows.values()} == {"ok"}, printed
    assert list(rows) == [
        "data",
        "weights",
        "precision",
        "memory, at most",
        "disk, chip store",
        "disk, run",
        "time",
    ]
    assert (
        "40 train, 18 val, 0 test chips" in rows["data"][1]
        and str(root) in rows["data"][1]
    )
    assert "fp32 on " in rows["precision"][1] and "Gflop/s" in rows["time"][1]
    assert not Path("runs").exists()


def test_what_is_missing(rsft, monkeypatch, tmp_path):
    monkeypatch.setenv("RSFT_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "900")
    code, printed = rsft(
        "finetune", "satmae_sar_metalora", "train.precision=fp32", "--dry-run"
    )
    rows = read_rows(printed)
    assert code == 1 and [
        name for name, (status, _) in rows.items() if status == "fail"
    ] == ["data", "weights"]
    assert (
        "does not exist: data/fusrs" in rows["data"][1]
        and "rsft prepare fusrs --root data/fusrs" in printed
    )
    assert printed.count("rsft weights get satmae_vit_large_patch16_224.fmow_rgb") == 2
    assert list(rows) == ["data", "weights", "precision", "memory, at most"]


def test_no_room_and_a_store_that_is_named_wrongly(rsft, recipe_file, monkeypatch):
    # a machine with little room, which no test can have
    monkeypatch.setattr(run_needs, "free_disk", lambda folder: 10.0)
    # a machine with little memory, which no test can have
    monkeypatch.setattr(run_needs, "_free_memory", lambda device: 10.0)
    code, printed = rsft("finetune", recipe_file, "train.precision=fp32", "--dry-run")
    rows = read_rows(printed)
    assert code == 1 and rows["disk, run"][0] == rows["disk, chip store"][0] == "fail"
    assert rows["memory, at most"][0] == "warn"
    code, printed = rsft(
        "finetune",
        recipe_file,
        "--dry-run",
        "data.root=nowhere",
        "train.precision=fp32",
    )
    assert code == 1 and "nowhere" in read_rows(printed)["data"][1]
    words = ("--dry-run", "--data", "elsewhere", "train.precision=fp32")
    code, printed = rsft("finetune", recipe_file, *words)
    assert code == 1 and "elsewhere" in read_rows(printed)["data"][1]


def test_what_a_dry_run_does_not_take(rsft, root, recipe_file):
    for words in ([root], ["auto", f"data.root={root}"], ["--resume"], []):
        code, printed = rsft("finetune", *words, "--dry-run")
        assert code == 2 and "a dry run takes a recipe" in printed
    code, printed = rsft("finetune", recipe_file, "--dry-run", "peft.rnk=3")
    assert code == 2 and "peft.rank" in printed
    code, printed = rsft(
        "finetune", recipe_file, "--dry-run", "train.precision=fp16", "train.device=cpu"
    )
    assert code == 1 and read_rows(printed)["precision"][0] == "fail"
