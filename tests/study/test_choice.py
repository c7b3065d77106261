"""Which candidate is chosen, and what a choice leaves behind. Training is replaced
where only its numbers matter."""

import json
import shutil
import signal
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from rsft.errors import Interrupted, RequestError
from rsft.study import choice as choice_module
from rsft.study import runs
from rsft.study.choice import AutoSearch, SearchListener
from rsft.study.choice_file import read_auto
from rsft.study.outcomes import TrialOutcome
from rsft.training.runs.reader import find_runs, hash_data, hash_manifest
from tests.helpers.killing import kill_this_process, run_until_killed

NAMES = ("weak", "fair", "good", "best")


@pytest.fixture
def auto_file(tmp_path, root):
    """Write a file with candidates of four epochs; a part of the training is one
    epoch."""
    for number, name in enumerate(NAMES, 1):
        (tmp_path / f"{name}.yaml").write_text(
            f"data: {{size: 32}}\ntrain: {{epochs: 4, lr: 0.0{number}}}\n"
        )

    def write(text="", names=NAMES):
        path = tmp_path / "some.yaml"
        files = ", ".join(str(tmp_path / f"{name}.yaml") for name in names)
        path.write_text(
            f"method: auto\ndata: {{root: {root}}}\ncandidates: [{files}]\n{text}"
        )
        return path

    return write


@pytest.fixture
def training(monkeypatch):
    """Replace training: a run has the accuracies of `measure`. Return the calls and
    what they may change."""

    class Training:
        def __init__(self):
            self.calls = []
            self.trial = None
            self.clock = 0.0
            self.measure = lambda name, fold, epochs: {
                "macro": 0.1 * NAMES.index(name) + 0.01 * fold
            }

        def train(self, folder, listener):
            self.calls.append(tuple(self.trial.keys.values()))
            self.clock += 1.0

        def outcome(self, folder, keys, status, reason, metric=""):
            metrics = {} if status == "failed" else self.measure(*arguments(keys))
            data = hash_data(self.trial.recipe.data)
            return TrialOutcome(keys, status, reason, metrics, 1.0, "run", data)

    training = Training()

    class Listener(SearchListener):
        def on_trial(self, trial, spent_s, budget_s):
            training.trial = trial

    monkeypatch.setattr(choice_module.time, "process_time", lambda: training.clock)
    monkeypatch.setattr(runs, "train_in_folder", training.train)
    monkeypatch.setattr(runs, "read_run_outcome", training.outcome)
    training.search = lambda path, folder, *overrides: AutoSearch(
        read_auto(path, overrides), folder, Listener()
    )
    return training


def arguments(keys):
    return keys["candidate"], int(keys["data.fold"][0]), keys["train.epochs"]


def test_halving(auto_file, training, tmp_path):
    choice = training.search(auto_file(), tmp_path / "sweep").run()
    first = [(name, "1/3", 1) for name in NAMES]
    second = [(name, f"{fold}/3", 1) for fold in (2, 3) for name in ("best", "good")]
    third = [(name, f"{fold}/3", 4) for fold in (1, 2, 3) for name in ("best", "good")]
    assert training.calls == first + second + third
    assert choice.recipe.name == "some" and choice.source == tmp_path / "best.yaml"
    assert choice.recipe.train.epochs == 4 and choice.recipe.data.fold is None
    assert choice.recipe.track.to == []
    assert choice.sentence == "chosen: best, macro 32.0 ± 1.0 in 3 folds; good 22.0"
    rows = [
        (x["candidate"], x["folds"], x["epochs"], x["chosen"])
        for x in choice.metadata["candidates"]
    ]
    assert rows == [
        ("weak", 1, 1, False),
        ("fair", 1, 1, False),
        ("good", 3, 1, False),
        ("best", 3, 1, False),
        ("good", 3, 4, False),
        ("best", 3, 4, True),
    ]
    assert choice.metadata["candidates"][2]["macro"] == pytest.approx(0.22)
    assert (
        choice.metadata["candidates"][0]["macro_spread"] is None
        and choice.metadata["complete"]
    )
    assert (
        sum(x["cpu_seconds"] for x in choice.metadata["candidates"])
        == len(training.calls)
        == 14
    )
    json.dumps(choice.metadata)


def test_the_same_command_reads_the_outcomes(auto_file, training, tmp_path):
    path = auto_file()
    first = training.search(path, tmp_path / "sweep").run()
    again = training.search(path, tmp_path / "sweep").run()
    assert len(training.calls) == 14 and again == first
    training.search(path, tmp_path / "sweep", "seed=1").run()
    assert len(training.calls) == 28


def test_choice_for_the_tail(auto_file, training, tmp_path):
    tails = dict(zip(NAMES, (0.9, 0.8, 0.7, 0.6), strict=True))
    training.measure = lambda name, fold, epochs: {
        "macro": 0.5,
        **({"tail": tails[name]} if fold != 2 else {}),
    }
    choice = training.search(auto_file("for: tail\n"), tmp_path / "sweep").run()
    assert choice.sentence == "chosen: weak, tail 90.0 ± 0.0 in 3 folds; fair 80.0"


def test_of_equal_candidates_the_first_of_the_file_is_chosen(
    auto_file, training, tmp_path
):
    training.measure = lambda name, fold, epochs: {"macro": 0.5}
    assert training.search(auto_file(), tmp_path / "sweep").run().source.stem == "weak"


@pytest.mark.parametrize(
    ("budget", "chosen", "sentence"),
    [
        (0, "weak", "the first candidate: the budget of 0s ended before a comparison"),
        (
            2,
            "fair",
            (
                "chosen: fair, macro 11.0 in 1 fold; weak 1.0 with a part of the"
                " epochs; the budget of 2s ended"
            ),
        ),
        (
            4,
            "best",
            "chosen: best, macro 31.0 in 1 fold; good 21.0 with a part of the epochs",
        ),
        (6, "best", "macro 31.5 ± 0.7 in 2 folds; good 21.5 with a part of the epochs"),
        (9, "best", "macro 32.0 ± 1.0 in 3 folds; good 22.0 with a part of the epochs"),
        (
            10,
            "best",
            (
                "macro 31.0 in 1 fold; good 21.0; the budget of 10s ended before the"
                " last comparison"
            ),
        ),
    ],
)
def test_the_best_candidate_so_far_when_the_budget_ends(
    auto_file, training, tmp_path, budget, chosen, sentence
):
    choice = training.search(auto_file(), tmp_path / "sweep", f"budget={budget}s").run()
    assert (
        len(training.calls) == budget
        and choice.source.stem == chosen
        and sentence in choice.sentence
    )
    assert not choice.metadata["complete"]
    again = training.search(auto_file(), tmp_path / "sweep", f"budget={budget}s").run()
    assert len(training.calls) == budget and again == choice
    assert (
        training.search(auto_file(), tmp_path / "sweep").run().metadata["complete"]
        and len(training.calls) == 14
    )


def test_without_folds_the_first_candidate_is_taken(auto_file, training, tmp_path):
    choice = training.search(auto_file("folds: 10\n"), tmp_path / "sweep")
    choice.plan = replace(choice.plan, obstacle="3 training chips are too few")
    chosen = choice.run()
    assert training.calls == [] and chosen.source.stem == "weak"
    assert "3 training chips are too few" in chosen.sentence
    assert chosen.metadata["candidates"] == []


def test_candidates_that_fail(auto_file, training, tmp_path):
    def fail(folder, listener):
        training.train(folder, listener)
        if (
            training.trial.keys["candidate"] in broken
            and training.trial.keys["train.epochs"] == epochs
        ):
            raise RequestError("the weights are missing", "a.pth", "get them")

    runs.train_in_folder = fail  # the fixture restores it
    broken = ("best",)
    epochs = 4
    choice = training.search(auto_file(), tmp_path / "sweep").run()
    assert choice.source.stem == "good" and "best" not in choice.sentence
    faults = {
        (x["candidate"], x["epochs"]): x["fault"]
        for x in choice.metadata["candidates"]
        if x["fault"]
    }
    assert faults == {("best", 4): "the weights are missing: a.pth"}
    broken = NAMES
    epochs = 1
    with pytest.raises(RequestError, match="no candidate can be trained") as caught:
        training.search(auto_file(), tmp_path / "other").run()
    assert "weak: the weights are missing" in caught.value.message


SMALL = "backbone: {name: aconvnet, pool: avg}\npeft: {method: full}\n"


@pytest.fixture
def with_pool(auto_file, training, tmp_path):
    """Run a choice in which the best candidate has a twin with unlabeled chips."""
    (tmp_path / "pooled.yaml").write_text(
        f"data: {{size: 32}}\nsemi: {{}}\ntrain: {{epochs: 8}}\n{SMALL}"
    )

    def run(gain, *overrides):
        def measure(name, fold, epochs):
            if name == "pooled":
                return {"macro": 0.3 + gain + 0.01 * fold}
            return {"macro": 0.1 * NAMES.index(name) + 0.01 * fold}

        training.measure = measure
        path = auto_file(names=("pooled", *NAMES))
        keys = ["data.unlabeled=archive", *overrides]
        return training.search(path, tmp_path / "sweep", *keys).run()

    return run


def test_a_pool_that_gains_is_taken(with_pool, training):
    choice = with_pool(0.02)
    assert training.calls[14:] == [("pooled", f"{fold}/3", 8) for fold in (1, 2, 3)]
    assert choice.sentence.startswith(
        "chosen: pooled, macro 34.0 ± 1.0 in 3 folds; best 32.0"
    )
    assert choice.recipe.data.unlabeled == "archive"
    assert choice.metadata["unlabeled"] and choice.metadata["complete"]


@pytest.mark.parametrize(("gain", "accuracy"), [(-0.15, "17.0"), (0.0, "32.0")])
def test_a_pool_that_gains_nothing_is_left_out(with_pool, gain, accuracy):
    choice = with_pool(gain)
    assert choice.sentence == (
        "chosen: best, macro 32.0 ± 1.0 in 3 folds; good 22.0; unlabeled chips left"
        f" out: pooled {accuracy} instead of 32.0 in 3 folds"
    )
    assert choice.recipe.data.unlabeled is None
    assert not choice.metadata["unlabeled"]
    rows = [x["candidate"] for x in choice.metadata["candidates"]]
    assert "pooled" in rows


@pytest.mark.parametrize(
    ("budget", "calls", "chosen", "words"),
    [
        (0, 0, "weak", "left out: the budget of 0s ended before their comparison"),
        # best on one fold, with a part of its epochs; then the same with the pool
        (4, 8, "pooled", "chosen: pooled, macro 41.5 ± 0.7 in 2 folds; best 31.5"),
        (14, 17, "pooled", "chosen: pooled, macro 42.0 ± 1.0 in 3 folds; best 32.0"),
    ],
)
def test_a_pool_has_as_much_budget_again(
    with_pool, training, budget, calls, chosen, words
):
    choice = with_pool(0.1, f"budget={budget}s")
    assert len(training.calls) == calls and choice.source.stem == chosen
    assert words in choice.sentence
    assert with_pool(0.1, f"budget={budget}s") == choice
    assert len(training.calls) == calls


def test_a_pool_must_gain_over_the_same_network(with_pool, training, tmp_path):
    recipe = tmp_path / "fair.yaml"
    recipe.write_text(recipe.read_text() + SMALL)
    choice = with_pool(0.02)
    assert [x for x in training.calls if x[0] == "fair" and x[2] == 4] == [
        ("fair", f"{fold}/3", 4) for fold in (1, 2, 3)
    ]
    assert choice.source.stem == "pooled"
    # short trainings left the small network behind
    earlier = training.measure
    training.measure = lambda name, fold, epochs: (
        {"macro": 0.9} if (name, epochs) == ("fair", 4) else earlier(name, fold, epochs)
    )
    shutil.rmtree(tmp_path / "sweep")
    path = tmp_path / "some.yaml"
    choice = training.search(
        path, tmp_path / "sweep", "data.unlabeled=archive", "seed=1"
    ).run()
    assert choice.sentence == (
        "chosen: fair, macro 90.0 ± 0.0 in 3 folds; best 32.0; unlabeled chips left"
        " out: pooled 34.0 instead of 90.0 in 3 folds"
    )


def test_a_pool_that_cannot_be_used_is_left_out(with_pool, training):
    def fail(folder, listener):
        training.train(folder, listener)
        if training.trial.keys["candidate"] == "pooled":
            raise RequestError("no chips without labels", "archive", "give chips")

    runs.train_in_folder = fail  # the fixture restores it
    choice = with_pool(0.1)
    assert choice.source.stem == "best"
    assert choice.sentence.endswith(
        "unlabeled chips left out: pooled: no chips without labels: archive"
    )


def test_a_pool_is_left_out_without_a_comparison(auto_file, tmp_path, training):
    (tmp_path / "pooled.yaml").write_text(
        "data: {size: 32}\nsemi: {}\ntrain: {epochs: 8}\n"
    )
    path = auto_file("min_chips: 1000\n", names=("pooled", *NAMES))
    search = training.search(path, tmp_path / "sweep", "data.unlabeled=archive")
    choice = search.run()
    assert training.calls == [] and choice.source.stem == "weak"
    assert "chosen without a comparison: weak" in choice.sentence
    assert "unlabeled chips left out" in choice.sentence
    assert choice.recipe.data.unlabeled is None


def test_a_signal_stops_the_choice(auto_file, training, tmp_path, monkeypatch):
    def stop(folder, listener):
        raise Interrupted(signal.SIGTERM, folder, "rsft finetune --resume")

    monkeypatch.setattr(runs, "train_in_folder", stop)
    with pytest.raises(Interrupted) as caught:
        training.search(auto_file(), tmp_path / "sweep").run()
    assert (
        caught.value.exit_code == 128 + signal.SIGTERM
        and caught.value.location == str(tmp_path / "sweep")
    )
    assert "the same command" in caught.value.hint


def test_other_data_is_compared_again(auto_file, training, tmp_path, root):
    path = auto_file()
    training.search(path, tmp_path / "sweep").run()
    for file in tmp_path.glob("sweep/trials/*/trial.json"):
        file.write_text(file.read_text().replace(hash_manifest(root), "0" * 64))
    training.search(path, tmp_path / "sweep").run()
    assert len(training.calls) == 28


PROBE = """\
name: {name}
data: {{size: 32, augment: none}}
backbone: {{blocks: 1}}
peft: {{method: linear-probe}}
head: {{init: {init}}}
train: {{epochs: {epochs}, batch_size: 16, lr: 1.0e-6}}
evaluate: {{batch_size: 64}}
"""


@pytest.fixture
def probes(tmp_path):
    """Write a file with linear probes, by default of one epoch: random weights, and
    class means."""

    def write(store, epochs=1, count=2):
        files = []
        for name, init in (("random", "random"), ("means", "class-mean"))[:count]:
            files.append(tmp_path / f"{name}.yaml")
            files[-1].write_text(PROBE.format(name=name, init=init, epochs=epochs))
        path = tmp_path / "probes.yaml"
        candidates = ", ".join(map(str, files))
        path.write_text(
            f"method: auto\nfolds: 2\ndata: {{root: {store}}}\ncandidates:"
            f" [{candidates}]\n"
        )
        return path

    return write


@pytest.fixture
def store(class_folders, tmp_path):
    """Chip store of a test, with a class of a single training chip; return its
    folder."""
    from rsft.data.prepare.image_folder import prepare_folder

    source = tmp_path / "source"
    shutil.copytree(class_folders, source)
    for split in ("train", "val"):
        (source / split / "single").mkdir()
        shutil.copy(source / split / "flat/0.png", source / split / "single")
    return prepare_folder(source, tmp_path / "store").root


def change_manifest(root, change):
    table = pq.read_table(root / "manifest.parquet")
    frame = change(table.to_pandas())
    frame.to_parquet(root / "manifest.parquet", index=False)


@pytest.mark.exhaustive
def test_a_choice_reads_neither_files_nor_labels_of_validation_chips(
    probes, store, tmp_path
):
    path = probes(store)
    first = AutoSearch(read_auto(path), tmp_path / "first").run()
    assert first.source.stem == "means" and any(
        "single" in note for note in first.metadata["notes"]
    )

    def permute(frame):
        is_val = frame["split"] == "val"
        frame.loc[is_val, "class"] = np.roll(frame.loc[is_val, "class"], 5)
        return frame

    manifest = hash_manifest(store)
    change_manifest(store, permute)
    for file in (store / "chips/val").rglob("*.png"):
        file.unlink()
    other = AutoSearch(read_auto(path), tmp_path / "other").run()
    assert hash_manifest(store) != manifest
    rows = zip(other.metadata["candidates"], first.metadata["candidates"], strict=True)
    assert all(x | {"cpu_seconds": 0} == y | {"cpu_seconds": 0} for x, y in rows)
    assert other.sentence == first.sentence
    runs = find_runs(
        tmp_path / "other/trials" / read_auto(path).candidates[0].trial(1, 2, 1.0).id
    )
    predictions = pd.read_parquet(runs[0].folder / "evaluation/predictions.parquet")
    assert all(name.startswith("chips/train/") for name in predictions["path"])


@pytest.mark.exhaustive
def test_a_killed_choice_continues_its_run(probes, root, tmp_path, monkeypatch):
    path = probes(root, epochs=5)
    folder = tmp_path / "sweep"

    # the listener that counts the time of a choice; no option adds another one
    class Killer(choice_module._Meter):
        def on_epoch_end(self, row, scales):
            super().on_epoch_end(row, scales)
            if row["epoch"] == 1:
                kill_this_process()

    with monkeypatch.context() as patch:
        patch.setattr(choice_module, "_Meter", Killer)
        run_until_killed(
            lambda: AutoSearch(read_auto(path), folder).run(), timeout_s=120
        )
    candidate = read_auto(path).candidates[0]
    trial = folder / "trials" / candidate.trial(1, 2, 0.25).id
    assert (
        not (trial / "trial.json").exists()
        and float((trial / "cpu_seconds.txt").read_text()) > 0
    )
    choice = AutoSearch(read_auto(path), folder).run()
    (run,) = find_runs(trial)
    assert (
        run.status == "done"
        and len(run.metadata["resumed"]) == 1
        and choice.source.stem == "means"
    )


@pytest.mark.slow
def test_the_budget_stops_a_run_which_continues_later(
    probes, root, tmp_path, monkeypatch
):
    path = probes(root, epochs=5, count=1)
    folder = tmp_path / "sweep"
    clock = 0.0

    def process_time():
        nonlocal clock
        clock += 1.0  # with each step
        return clock

    with monkeypatch.context() as patch:
        patch.setattr(choice_module.time, "process_time", process_time)
        choice = AutoSearch(read_auto(path, ["budget=2s"]), folder).run()
    assert "before a comparison" in choice.sentence and choice.source.stem == "random"
    (trial,) = (folder / "trials").iterdir()
    assert (
        find_runs(trial)[0].status == "interrupted"
        and not (trial / "trial.json").exists()
    )
    assert AutoSearch(read_auto(path), folder).run().metadata["complete"]
    (run,) = find_runs(trial)
    assert run.status == "done" and len(run.metadata["resumed"]) == 1
