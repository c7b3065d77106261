import json
import multiprocessing
import socket
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rsft.models.bundle.bundle import Bundle
from rsft.recipe.load import load_recipe
from rsft.recipe.registries import SCHEDULES
from rsft.training.finetune import finetune
from rsft.training.processes import is_rank_zero
from rsft.training.runs.reader import find_runs
from tests.helpers.pool_chips import make_store
from tests.helpers.two_processes import LossRecorder, train_trials

COMMON = "train.batch_size=16 train.epochs=5 train.max_grad_norm=1.0"
SEMI = (
    "data.unlabeled=POOL semi.start=0.2 semi.threshold=0.35 semi.foreign=0.2"
    " semi.ratio=2"
)
TRIALS = {
    "alternating": (
        f"{COMMON} meta.warmup=0 meta.scale_invariant_steps=true meta.init_scale=0.5"
    ),
    "second order": f"{COMMON} meta.order=2",
    "joint": f"{COMMON} meta.schedule=joint train.accumulate_grad_batches=2",
    "sharded": f"{COMMON} meta.warmup=0 train.strategy=fsdp",
    "uneven pseudo-labels": (  # 40 chips: the last batch has 4
        "meta=null train.batch_size=6 train.epochs=4 evaluate.batch_size=5"
        " backbone.blocks=2 train.ema=0.5 " + SEMI
    ),
    "batch norm": (
        "meta=null train.batch_size=16 train.epochs=2 backbone.name=aconvnet"
        " backbone.blocks=null backbone.pool=avg peft.method=full train.precision=auto"
        f" {SEMI}"
    ),
}
"""Overrides of the recipe by trial; POOL stands for a chip store without labels."""
if "metalora" in SCHEDULES:  # of a plug-in that can be deleted
    TRIALS["metalora"] = (
        f'{COMMON} meta={{"schedule":"metalora","lr":0.05,"outer_every":2,"ratio":0.3}}'
        " peft.init=rank"
    )


ALWAYS = ("joint", "batch norm")
"""Trials that tests without the marker `exhaustive` look at."""


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Chip store whose labels are not used."""
    return make_store(
        tmp_path_factory.mktemp("pool") / "chips", {"train": range(12)}
    ).root


@pytest.fixture(scope="module")
def trials(request):
    """Names of the trials that the selected tests of this module look at."""
    items = [item for item in request.session.items if item.path == request.path]
    params = [getattr(item, "callspec", None) for item in items]
    chosen = {item.params.get("trial") for item in params if item}
    return [name for name in TRIALS if name in chosen or name in ALWAYS]


@pytest.fixture(scope="module")
def two_process_results(root, pool, trials, tmp_path_factory):
    """Results of both gloo processes for every trial."""
    from tests.helpers.bars_recipe import BARS_RECIPE

    folder = tmp_path_factory.mktemp("together")
    overrides = {name: TRIALS[name].replace("POOL", str(pool)) for name in trials}
    (folder / "bars.yaml").write_text(BARS_RECIPE.replace("ROOT", str(root)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = (
        2,
        port,
        folder / "bars.yaml",
        folder / "runs",
        folder / "results",
        tuple(overrides.values()),
    )
    # imports PyTorch once, and uses no GPU before a fork
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["lightning.fabric", "torch.distributed.tensor", "tests.helpers.two_processes"]
    )
    processes = [
        context.Process(target=train_trials, args=(rank, *shared)) for rank in (0, 1)
    ]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(600)
        assert [process.exitcode for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    first, second = (
        json.loads((folder / f"results.{rank}").read_text()) for rank in (0, 1)
    )
    return {name: (first[words], second[words]) for name, words in overrides.items()}


@pytest.mark.exhaustive
@pytest.mark.parametrize("trial", [name for name in TRIALS if name != "batch norm"])
def test_two_processes_equal_one(
    two_process_results, recipe_file, pool, tmp_path, trial
):
    recorder = LossRecorder()
    first, second = two_process_results[trial]
    overrides = (
        TRIALS[trial].replace("train.strategy=fsdp", "").replace("POOL", str(pool))
    )
    run = finetune(load_recipe(recipe_file, overrides.split()), tmp_path, recorder)
    assert len(recorder.losses) >= 10
    # the distance amplifies rounding: a chip near its limit may have a pseudo-label
    # with one number of processes only
    np.testing.assert_allclose(
        first["losses"][:10],
        recorder.losses[:10],
        atol=1e-3 if "pseudo" in trial else 1e-4,
    )
    np.testing.assert_allclose(first["losses"], recorder.losses, atol=1e-3)
    tables = [
        pd.read_csv(Path(folder) / "metrics.csv")
        for folder in (first["folder"], run.folder)
    ]
    for name in ("meta_loss", "val_loss", "val_macro", "step"):
        np.testing.assert_allclose(*(table[name] for table in tables), atol=1e-3)
    tensors = Bundle.load(Path(first["folder"])).tensors
    for key, value in Bundle.load(run.folder).tensors.items():
        np.testing.assert_allclose(tensors[key], value, atol=2e-3)
    if trial == "metalora":
        scales = [
            pd.read_csv(Path(folder) / "modulator.csv")["value"]
            for folder in (first["folder"], run.folder)
        ]
        np.testing.assert_allclose(*scales, atol=1e-5)
        assert scales[0].std() > 1e-4
    if "pseudo" in trial:
        counts = [
            pd.read_csv(Path(folder) / "pseudo_labels.csv")
            for folder in (first["folder"], run.folder)
        ]
        np.testing.assert_allclose(*counts, atol=2)
        assert (
            counts[0]["chips"].iloc[-1] in (64, 84)
            and counts[0].iloc[-1, 1:4].sum() > 0
        )
    assert first["digest"] == second["digest"]
    assert first["is_writer"] and not second["is_writer"] and second["losses"] == []
    # three blocks of twelve frozen parameters
    assert first["shards"] == (3 * 12 if trial == "sharded" else 0)


@pytest.mark.slow
def test_batch_norm_ends_with_equal_statistics(two_process_results):
    """Each process normalizes by the statistics of its own chips, so that the weights
    differ from those of one."""
    first, second = two_process_results["batch norm"]
    tensors = Bundle.load(Path(first["folder"])).tensors
    assert (
        first["digest"] == second["digest"] and "layer1.0.norm1.running_mean" in tensors
    )


@pytest.mark.slow
def test_all_processes_have_the_precision_that_the_first_one_selects(
    two_process_results,
):
    first, second = two_process_results["batch norm"]
    assert first["precision"] == second["precision"] == "bf16"
    assert Bundle.load(Path(first["folder"])).recipe.train.precision == "bf16"


@pytest.mark.slow
def test_only_rank_zero_writes(two_process_results):
    folder = Path(two_process_results["joint"][0]["folder"])
    assert len(find_runs(folder.parent)) == len(two_process_results) >= len(ALWAYS)
    assert all(run.status == "done" for run in find_runs(folder.parent))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, True),
        ({"RANK": "3", "LOCAL_RANK": "0"}, False),  # torchrun, the second machine
        ({"LOCAL_RANK": "1"}, False),  # Lightning
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, False),
        # an interactive shell of SLURM
        (
            {"SLURM_PROCID": "1", "SLURM_NTASKS": "1"},
            True,
        ),
    ],
)
def test_rank_zero_is_known_from_the_environment(monkeypatch, variables, expected):
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_rank_zero() is expected
