"""Precision of a run, and which settings of processes are consistent."""

import pytest
import torch

from rsft.errors import RequestError
from rsft.recipe.schema import DataSection, MetaSection, Recipe, TrainSection
from rsft.training import processes as processes_module
from rsft.training.processes import (
    Processes,
    all_gather_object,
    all_reduce_max,
    all_reduce_mean,
    broadcast_object,
    launch_processes,
    require_consistent_processes,
    resolve_precision,
    without_others,
)
from tests.helpers.messages import mentions

CPU = torch.device("cpu")
CUDA = torch.device("cuda")


def make_recipe(precision, strategy="auto", **sections):
    train = TrainSection(epochs=1, precision=precision, strategy=strategy)
    return Recipe(
        name="x", data=DataSection(root="x", size=32), train=train, **sections
    )


@pytest.fixture
def speedups(monkeypatch):
    """The speedups over float32 that are measured."""
    values = {"bf16": 1.5, "fp16": 3.0}
    monkeypatch.setattr(
        processes_module,
        "measure_speedups",
        lambda device, names: {name: values[name] for name in names},
    )
    return values


def test_auto_becomes_the_fastest_precision(speedups):
    resolved, metadata = resolve_precision(make_recipe("auto"), CPU)
    assert resolved == make_recipe("bf16")
    assert metadata == {"precision": "bf16", "precision_speeds": {"bf16": 1.5}}


def test_auto_leaves_out_what_a_second_order_step_cannot_use(speedups):
    order_2 = {"meta": MetaSection(order=2)}
    assert resolve_precision(make_recipe("auto"), CUDA)[0] == make_recipe("fp16")
    assert resolve_precision(make_recipe("auto", **order_2), CUDA)[0] == make_recipe(
        "bf16", **order_2
    )
    resolved, metadata = resolve_precision(make_recipe("auto", "fsdp", **order_2), CUDA)
    assert (
        resolved == make_recipe("fp32", "fsdp", **order_2)
        and metadata["precision_speeds"] == {}
    )


def test_float32_is_not_measured(monkeypatch):
    monkeypatch.setattr(processes_module, "measure_speedups", None)
    assert resolve_precision(make_recipe("fp32"), CPU) == (
        make_recipe("fp32"),
        {"precision": "fp32"},
    )


@pytest.mark.parametrize(
    ("speedup", "factor"), [(0.95, None), (0.5, "2 times"), (0.26, "3.85 times")]
)
def test_a_slower_precision_is_stated_with_its_factor(
    speedups, caplog, speedup, factor
):
    speedups["bf16"] = speedup
    resolved, metadata = resolve_precision(make_recipe("bf16"), CPU)
    assert resolved == make_recipe("bf16")
    assert metadata == {"precision": "bf16", "precision_speeds": {"bf16": speedup}}
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == bool(factor) and all(
        factor in text and "auto" in text for text in warnings
    )


def test_a_much_slower_precision_is_refused_unless_the_recipe_allows_it(
    speedups, caplog
):
    speedups["bf16"] = 1 / 216
    recipe = make_recipe("bf16")
    with pytest.raises(
        RequestError, match="bf16 takes 216 times as long as in float32 on this cpu"
    ) as error:
        resolve_precision(recipe, CPU)
    assert (
        "train.precision=auto" in error.value.hint
        and "train.allow_slow_precision=true" in error.value.hint
    )
    train = recipe.train.model_copy(update={"allow_slow_precision": True})
    allowed = recipe.model_copy(update={"train": train})
    assert resolve_precision(allowed, CPU)[0] == allowed
    assert "216 times" in caplog.text


def test_only_the_first_process_measures(monkeypatch):
    monkeypatch.setattr(processes_module, "measure_speedups", None)
    monkeypatch.setenv("RANK", "1")
    for precision in ("auto", "bf16"):
        assert resolve_precision(make_recipe(precision), CPU)[0] == make_recipe(
            precision
        )


def test_float16_needs_a_gpu_and_first_order(speedups):
    with pytest.raises(RequestError, match="needs a GPU"):
        resolve_precision(make_recipe("fp16"), CPU)
    with pytest.raises(RequestError, match="second-order"):
        resolve_precision(make_recipe("fp16", meta=MetaSection(order=2)), CUDA)
    assert (
        resolve_precision(make_recipe("fp16", meta=MetaSection()), CUDA)[1]["precision"]
        == "fp16"
    )


def test_a_second_order_step_needs_weights_that_it_can_cast_to_float32(speedups):
    order_2 = MetaSection(order=2)
    with pytest.raises(RequestError, match="sharded weights"):
        resolve_precision(make_recipe("bf16", "fsdp", meta=order_2), CPU)
    for recipe in (
        make_recipe("bf16", meta=order_2),
        make_recipe("fp32", "fsdp", meta=order_2),
    ):
        assert resolve_precision(recipe, CPU)[0] == recipe


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"devices": 2, "batch_size": 7}, "a batch of 7 chips cannot be shared by 2"),
        ({"strategy": "fsdp"}, "sharding needs more than one process"),
    ],
)
def test_contradicting_keys(keys, message):
    with pytest.raises(RequestError, match=message):
        require_consistent_processes(TrainSection(epochs=1, **keys))


def test_the_number_of_started_processes_must_match_the_recipe(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(RequestError, match=mentions("4 processes", "asks for 1")):
        require_consistent_processes(TrainSection(epochs=1))
    require_consistent_processes(
        TrainSection(epochs=1, devices=2, nodes=2, strategy="fsdp")
    )


def test_one_process():
    processes = launch_processes(
        TrainSection(epochs=1, precision="fp32"), torch.device("cpu")
    )
    assert processes == Processes(torch.device("cpu"), dtype=None, rank=0, world_size=1)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_matrix_products_have_the_precision(precision, dtype):
    processes = launch_processes(
        TrainSection(epochs=1, precision=precision), torch.device("cpu")
    )
    with processes.autocast():
        assert (torch.eye(2) @ torch.eye(2)).dtype == dtype


def test_nothing_is_exchanged_without_the_others(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(
        torch.distributed,
        "all_reduce",
        lambda *_: pytest.fail("waits for the other processes"),
    )
    with without_others():
        assert all_reduce_mean(torch.tensor(3.0)) == 3 and all_gather_object("a") == [
            "a"
        ]
        assert broadcast_object("b") == "b" and all_reduce_max(2, CPU) == 2
