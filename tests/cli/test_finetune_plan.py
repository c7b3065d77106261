"""`rsft finetune` with a chip store or a file with `method: auto`."""

import json
import shutil
from pathlib import Path

import pytest

from rsft.cli.finetune_plan import plan_run
from rsft.cli.finetune_steps import FinetuneRequest

PROBE = """\
name: {name}
data: {{size: 32, augment: none}}
backbone: {{blocks: 1}}
peft: {{method: linear-probe}}
head: {{init: {init}}}
train: {{epochs: 1, batch_size: 16, lr: 1.0e-6}}
"""


@pytest.fixture
def auto_file(tmp_path):
    """File without data.root, whose candidates train in a second."""
    for name, init in {"random": "random", "means": "class-mean"}.items():
        (tmp_path / f"{name}.yaml").write_text(PROBE.format(name=name, init=init))
    path = tmp_path / "probes.yaml"
    path.write_text("method: auto\nfolds: 2\ncandidates: [random.yaml, means.yaml]\n")
    return path


@pytest.mark.slow
def test_the_chosen_recipe_is_trained_and_its_run_tells_the_choice(
    rsft, auto_file, root
):
    code, printed = rsft(
        "finetune", auto_file, f"data.root={root}", "--no-report", "budget=10min"
    )
    assert code == 0, printed
    assert (
        "comparing random, means for macro in 2 folds, at most 10min of CPU time"
        in printed
    )
    assert (
        "candidate means  folds 2  epochs 1  macro" in printed
        and "chosen: means, macro" in printed
    )
    metadata = json.loads(Path("runs/probes/001/run.json").read_text())
    choice = metadata["choice"]
    assert metadata["status"] == "done" and metadata["recipe_file"].endswith(
        "means.yaml"
    )
    assert metadata["recipe"]["data"]["fold"] is None and metadata["train_chips"] == 40
    assert [
        (row["candidate"], row["folds"], row["chosen"]) for row in choice["candidates"]
    ] == [
        ("random", 2, False),
        ("means", 2, True),
    ]
    assert choice["sentence"] in printed and choice["complete"]

    metadata["status"] = "trained"  # as if it was killed before its evaluation
    Path("runs/probes/001/run.json").write_text(json.dumps(metadata))
    Path("runs/probes/001/evaluation/metrics.json").unlink()
    code, printed = rsft("finetune", "--resume", auto_file, "--no-report")
    assert code == 0 and "comparing" not in printed, printed
    assert json.loads(Path("runs/probes/001/run.json").read_text()) == metadata | {
        "status": "done"
    }

    code, printed = rsft(
        "finetune", auto_file, f"data.root={root}", "--no-report", "--json"
    )
    events = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert code == 0 and [event["event"] for event in events][:5] == [
        "candidate"
    ] * 4 + ["choice"]
    assert events[4]["chosen"] == "means" and events[-1]["run"] == "runs/probes/002"


@pytest.mark.slow
def test_a_chip_store_takes_the_shipped_candidates(rsft, root, tmp_path):
    store = shutil.copytree(root, tmp_path / "ships")
    code, printed = rsft(
        "finetune",
        store,
        "train.epochs=1",
        "budget=0s",
        "for=tail",
        "--no-report",
    )
    assert code == 0, printed
    assert "choose the method\n" in printed and "comparing" not in printed
    assert "slanted: 4 of 4 chips are recognized, and 0 of other classes" in printed
    first = Path("runs/ships-first/001")
    assert f"first bundle, until a better one is trained: {first}/bundle" in printed
    assert (first / "bundle/bundle.json").is_file()
    assert json.loads((first / "run.json").read_text())["status"] == "done"
    assert (
        "chosen without a comparison: padded small network, because 12 training chips"
        in printed.replace("\n", " ")
    )
    assert (
        Path("runs/ships/001/bundle/bundle.json").is_file()
        and (store / "audit.json").is_file()
    )


def test_options_of_the_choice_need_one(rsft, recipe_file, root, run):
    code, printed = rsft("finetune", recipe_file, "budget=1min")
    assert code == 2 and "budget" in printed
    code, printed = rsft("finetune", root, "--from", run)
    assert code == 2 and "leave out --from" in printed
    code, printed = rsft("finetune", root, "for=best")
    assert code == 2 and "macro | tail" in printed


def test_data_is_missing(rsft):
    code, printed = rsft("finetune", "auto")
    assert code == 2 and "data.root" in printed and "data.root=STORE" in printed
    code, printed = rsft("finetune", "auto", "data.root=nowhere")
    assert code == 2 and "not a chip store" in printed and not Path("runs").exists()


def test_a_folder_with_the_name_of_a_recipe(rsft):
    Path("mstar_lt_small").mkdir()
    code, printed = rsft("finetune", "mstar_lt_small", "data.root=nowhere")
    assert code == 2 and "nowhere" in printed and "prepare folder" not in printed


@pytest.mark.parametrize("key", ["data.root={root}", "data={{root: {root}, size: 32}}"])
def test_a_chip_store_that_an_override_names_is_taken(
    recipe_file, root, monkeypatch, key
):
    def refuse(*arguments):
        raise AssertionError("another store was looked for")

    monkeypatch.setattr("rsft.training.store_lookup.find_chip_store", refuse)
    request = FinetuneRequest(str(recipe_file), [key.format(root=root)])
    plan = plan_run(request)
    assert plan.folder is None and plan.recipe.data.root == str(root)
    assert plan.source == recipe_file and not plan.entries
    with pytest.raises(AssertionError, match="looked for"):
        plan_run(FinetuneRequest(str(recipe_file), ["train.epochs=1"]))
