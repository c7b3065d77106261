"""Commands of `rsft` as a user types them."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pyogrio
import pytest

from rsft.cli import main


def test_all_faults_of_a_recipe_are_listed(rsft):
    code, printed = rsft(
        "finetune", "mstar_lt_metalora", "peft.rnk=8", "train.epochs=-1"
    )
    assert code == 2
    assert (
        "2 faults" in printed
        and "peft.rank" in printed
        and "a whole number >= 1" in printed
    )
    assert printed.count("mstar_lt_metalora.yaml:") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["finetune", "mstar_lt_metalor"], "did you mean mstar_lt_metalora"),
        (["finetune", "mstar_lt_metalora", "data.root=nowhere"], "is not a chip store"),
        (["evaluate", "nowhere", "nothing"], "no bundle found"),
        (["predict", "nowhere", "x.png", "-o", "x.csv"], "no bundle found"),
        (["prepare", "folder", "nowhere", "--root", "x"], "nowhere"),
        (["finetune"], "Missing argument"),
        (["sail"], "No such command"),
    ],
)
def test_wrong_request_exits_with_2_without_traceback(rsft, arguments, message):
    code, printed = rsft(*arguments)
    assert code == 2
    assert message in printed and "Traceback" not in printed


def test_debug_shows_the_traceback(monkeypatch, tmp_path):
    from rsft.errors import RequestError

    monkeypatch.setattr(
        sys, "argv", ["rsft", "evaluate", str(tmp_path), "x", "--debug"]
    )
    with pytest.raises(RequestError):
        main()


@pytest.mark.slow
def test_recipes(rsft, tmp_path):
    code, printed = rsft("recipes", "ls")
    assert code == 0 and "mstar_lt_metalora" in printed
    assert rsft("recipes", "cp", "mstar_lt_metalora", "mine.yaml")[0] == 0
    code, printed = rsft("recipes", "cp", "mstar_lt_metalora", "mine.yaml")
    assert code == 2 and "already" in printed
    assert "rsft finetune" in rsft("recipes", "show", "mine.yaml")[1]
    code, printed = rsft("recipes", "validate", "mine.yaml", "peft.rank=2")
    assert code == 0 and "rank: 2" in printed


@pytest.mark.slow
def test_prepare_finetune_evaluate_predict(rsft, class_folders, recipe_file, tmp_path):
    """Prepare, finetune, evaluate and predict."""
    code, printed = rsft("prepare", "folder", class_folders, "--root", "data")
    assert code == 0 and "58 chips" in printed

    code, printed = rsft("finetune", recipe_file, "data.root=data", "train.epochs=1")
    assert code == 0 and "MetaLoRA" in printed and "class-balanced k-NN" in printed
    run = tmp_path / "runs/bars/001"
    assert (run / "report.html").stat().st_size > 10_000
    assert (
        "MetaLoRA"
        in json.loads((run / "evaluation/metrics.json").read_text())["methods"]
    )

    code, printed = rsft(
        "evaluate", "runs/bars", "data", "--split", "train", "-o", "again"
    )
    assert code == 0 and "split train" in printed
    assert len(pd.read_parquet(tmp_path / "again/predictions.parquet")) == 40
    code, printed = rsft("evaluate", "runs/bars", "data", "-o", "again")
    assert code == 2 and "give --overwrite" in printed
    comparison = tmp_path / "again/comparison.json"
    comparison.touch()
    assert rsft("evaluate", "runs/bars", "data", "-o", "again", "--overwrite")[0] == 0
    assert not comparison.exists()
    code, printed = rsft(
        "evaluate", "runs/bars", "data", "-o", "beside", "--compare", "runs/bars"
    )
    assert code == 0 and "McNemar" in printed
    assert (
        json.loads((tmp_path / "beside/comparison.json").read_text())["paired"][
            "mcnemar"
        ]["all"]["p"]
        == 1
    )

    for name in ("out.gpkg", "out.csv", "out.geojson"):
        assert rsft("predict", "runs/bars", "data/chips/val", "-o", name)[0] == 0
    table = pyogrio.read_dataframe(tmp_path / "out.gpkg", layer="predictions")
    assert len(table) == 18 and set(table["class"]) <= {"flat", "steep", "slanted"}
    csv = pd.read_csv(tmp_path / "out.csv")
    assert csv[["p_flat", "p_slanted", "p_steep"]].sum(
        axis=1
    ).to_numpy() == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_rejected_chips_are_listed_with_reasons(rsft, run, tmp_path):
    folder = tmp_path / "faulty"
    folder.mkdir()
    gray = np.random.default_rng(0).integers(0, 255, (32, 32), np.uint8)
    cv2.imwrite(str(folder / "good.png"), gray)
    cv2.imwrite(str(folder / "black.png"), np.zeros((32, 32), np.uint8))
    cv2.imwrite(str(folder / "deep.png"), gray.astype(np.uint16) * 7)
    cv2.imwrite(str(folder / "color.png"), np.dstack([gray, gray.T, gray]))
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:300])
    (folder / "words.png").write_text("no image")
    code, printed = rsft("predict", run, folder, "-o", "out.csv")
    assert code == 0
    assert "1 chip classified" in printed and "5 chips rejected" in printed
    rejected = pd.read_csv("out.rejected.csv")
    reasons = {
        name.rpartition("/")[2]: reason
        for name, reason in rejected[["file", "reason"]].to_numpy()
    }
    assert set(reasons) == {
        "black.png",
        "deep.png",
        "color.png",
        "cut.png",
        "words.png",
    }
    assert (
        "every pixel is 0" in reasons["black.png"] and "uint16" in reasons["deep.png"]
    )
    assert "3 bands" in reasons["color.png"] and "truncated" in reasons["cut.png"]
    code, printed = rsft("predict", run, folder, "-o", "out.csv")
    assert code == 2 and "--overwrite" in printed
    assert (
        rsft("predict", run, folder, "-o", "out.csv", "--overwrite", "--strict")[0] == 1
    )


def test_unwritable_runs_folder(rsft, recipe_file, tmp_path):
    (tmp_path / "runs").write_text("a file")
    code, printed = rsft("finetune", recipe_file)
    assert code == 1 and "runs" in printed and "Traceback" not in printed


@pytest.mark.slow
def test_doctor(rsft):
    code, printed = rsft("doctor")
    assert code == 0 and "torch" in printed and "bfloat16" in printed


TWO_INTERRUPTS = """
import atexit, os, signal, time
from rsft import cli, errors

signal.signal(signal.SIGINT, signal.default_int_handler)  # a script in the background of a shell ignores it

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(9)

def work(args, obj):
    if {saves}:
        raise errors.Interrupted(signal.SIGINT, "runs/a/001")
    interrupt()

atexit.register(interrupt)
cli.build_app = lambda *_: work
cli.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("saves", "sentence"), [(False, "stopped"), (True, "error: stopped by SIGINT")]
)
def test_a_second_interrupt_ends_the_process_without_traceback(saves, sentence):
    done = subprocess.run(
        [sys.executable, "-c", TWO_INTERRUPTS.format(saves=saves)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (
        done.returncode == 130
        and done.stderr.startswith(sentence)
        and "Traceback" not in done.stderr
    )
