"""The processes of a run, and which settings of them are consistent."""

import pytest
import torch

from rsft.errors import RequestError
from rsft.recipe.schema import TrainSection
from rsft.training.processes import (
    all_gather_object,
    all_reduce_max,
    all_reduce_mean,
    broadcast_object,
    launch_processes,
    require_consistent_processes,
    without_others,
)
from tests.helpers.messages import mentions

CPU = torch.device("cpu")


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
    launched = launch_processes(TrainSection(epochs=1), torch.device("cpu"))
    assert launched == (torch.device("cpu"), (0, 1))


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
