"""From `rsft prepare` to `rsft finetune` in another folder: which chip store the recipe
reads, and what is said."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rsft.cli import finetune
from rsft.data.chips.manifest import MANIFEST
from rsft.data.chips.store import ChipStore
from rsft.data.chips.store_notes import note_store, read_notes
from rsft.errors import RequestError
from rsft.training.runs.reader import read_run_info
from rsft.utils.cell.walls import landlock_version
from tests.helpers.bars_recipe import BARS_RECIPE

RECIPE = (
    "# Bars\n# rsft prepare folder BARS --root"
    f" data/bars\n{BARS_RECIPE.replace('ROOT', 'data/bars')}"
)
SHORT = ("train.epochs=1", "meta=null", "--no-report")


@pytest.fixture
def store(root, tmp_path):
    """Copy a chip store that is called bars to another folder, and note it."""
    copy = Path(shutil.copytree(root, tmp_path / "elsewhere/bars"))
    note_store(copy, "")
    return copy


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "mine.yaml").write_text(RECIPE)
    return "mine.yaml"


def stop(root):
    raise RequestError("stopped by the test", root)


@pytest.fixture
def stopped(monkeypatch):
    """End `rsft finetune` before the training, with the folder of the chip store as the
    location of the error."""
    monkeypatch.setattr(finetune, "check_store", stop)


@pytest.mark.slow
def test_a_run_reads_what_prepare_wrote_elsewhere(
    rsft, class_folders, recipe, tmp_path, stores_of_test, monkeypatch
):
    code, printed = rsft(
        "prepare", "folder", class_folders, "--root", tmp_path / "elsewhere/bars"
    )
    assert code == 0 and f"note: listed as bars in {stores_of_test}" in printed
    code, printed = rsft("finetune", recipe, *SHORT)
    assert code == 0, printed
    sentences = [line for line in printed.splitlines() if "is not a chip store" in line]
    assert len(sentences) == 1 and str(tmp_path / "elsewhere/bars") in sentences[0]
    run = read_run_info(Path("runs/mine/001"))
    assert run.recipe is not None and run.recipe.data.root == str(
        tmp_path / "elsewhere/bars"
    )
    assert (
        run.metadata["store"] == sentences[0]
        and run.metadata["data"]["root"] == run.recipe.data.root
    )
    stores_of_test.unlink()  # the run itself names its store
    monkeypatch.setattr(finetune, "check_store", stop)
    for words in (["runs/mine/001/recipe.yaml"], ["--from", "runs/mine"]):
        lines = rsft("finetune", *words)[1].splitlines()
        assert lines == ["error: stopped by the test", f"where: {run.recipe.data.root}"]


def test_options_that_name_a_store(rsft, store, recipe, stopped):
    assert f"where: {store}\n" in rsft("finetune", recipe)[1]
    for words in (
        ("data.root=other",),
        ('data={"root": "other", "size": 32}',),
    ):
        code, printed = rsft("finetune", recipe, *words)
        assert code == 2 and "where: other\n" in printed and str(store) not in printed


def test_a_recipe_that_starts_at_a_bundle(rsft, store, recipe, run, stopped):
    code, printed = rsft("finetune", recipe, "--from", run / "bundle")
    assert (
        code == 2
        and f"data/bars is not a chip store, so this recipe reads {store}" in printed
    )


def test_a_missing_store_is_explained_by_the_recipe(rsft, recipe):
    code, printed = rsft("finetune", recipe)
    assert (
        code == 2
        and "the chip store does not exist" in printed
        and "where: data/bars\n" in printed
    )
    assert (
        "run rsft prepare folder BARS --root data/bars, or name another store:"
        " data.root=ROOT" in printed
    )
    code, printed = rsft("finetune", "satmae_sar_metalora")
    assert (
        code == 2
        and "rsft weights get satmae_vit_large_patch16_224.fmow_rgb && rsft prepare fusrs"
        in printed
    )


def test_the_path_of_a_shipped_recipe_outside_of_a_clone(rsft, stopped):
    sentence = (
        "recipes/mstar_lt_small.yaml is no file here; this is the recipe"
        " mstar_lt_small that comes with rsft\n"
    )
    code, printed = rsft("finetune", "recipes/mstar_lt_small.yaml", "data.root=demo")
    assert code == 2 and printed.count(sentence) == 1 and "where: demo\n" in printed
    code, printed = rsft("recipes", "show", "recipes/paper/in21k_dota_lift.yaml")
    assert (
        code == 0
        and "this is the recipe in21k_dota_lift" in printed
        and "LIFT" in printed
    )
    Path("recipes").mkdir()
    Path("recipes/mstar_lt_small.yaml").write_text(RECIPE)
    code, printed = rsft("finetune", "recipes/mstar_lt_small.yaml")
    assert sentence not in printed and "data/bars" in printed
    code, printed = rsft("finetune", "recipes/mstar_lt_smal.yaml")
    assert code == 2 and "did you mean mstar_lt_small?" in printed


def test_a_store_is_built_where_the_list_cannot_be_written(
    rsft, class_folders, tmp_path, monkeypatch
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RSFT_STORES", str(tmp_path / "file/stores.json"))
    code, printed = rsft("prepare", "folder", class_folders, "--root", "bars")
    notes = [line for line in printed.splitlines() if line.startswith("note: ")]
    assert code == 0 and ChipStore.open(Path("bars")).size == 58
    assert len(notes) == 1 and "not listed" in notes[0] and "data.root=" in notes[0]


@pytest.mark.skipif(not landlock_version(), reason="the kernel has no Landlock")
@pytest.mark.slow
def test_a_store_is_noted_behind_the_fence(class_folders, tmp_path):
    """The home and the folder of the store have no common parent that the command may
    write."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("RSFT_STORES", "XDG_DATA_HOME")
    }
    for name in ("home", "data", "tmp"):
        (tmp_path / name).mkdir()
    environment |= {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp")}
    command = [
        sys.executable,
        "-m",
        "rsft",
        "prepare",
        "folder",
        str(class_folders),
        "--root",
        "data/bars",
    ]
    done = subprocess.run(
        command,
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "home").rglob("stores.json")
    assert f"note: listed as bars in {file}" in done.stdout
    assert json.loads(file.read_text())["stores"][0]["path"] == str(
        tmp_path / "data/bars"
    )


@pytest.mark.slow
def test_labels_that_are_added_keep_the_store_known(rsft, store, tmp_path):
    (tmp_path / "more.csv").write_text("chip,path,corrected\n")
    before = read_notes()[0]
    chip = ChipStore.open(store).split("train").iloc[0]
    other = next(name for name in ("flat", "steep") if name != chip["class"])
    (tmp_path / "more.csv").write_text(
        f"chip,path,corrected\n{chip['name']},{store / chip['path']},{other}\n"
    )
    code, printed = rsft("data", "add", store, "more.csv")
    assert code == 0, printed
    after = read_notes()[0]
    assert after.manifest_sha256 != before.manifest_sha256 and after.find_fault() == ""
    # not by rsft
    (store / MANIFEST).write_bytes((store / MANIFEST).read_bytes() + b" ")
    assert after.find_fault() == "its manifest has changed"
