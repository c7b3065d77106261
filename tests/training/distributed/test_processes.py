import pytest
import torch

from rsft.errors import RequestError
from rsft.recipe.schema import TrainSection
from rsft.training.distributed.processes import launch_processes, require_consistent_processes


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"devices": 2, "batch_size": 7}, "a batch of 7 chips cannot be shared by 2"),
        ({"strategy": "fsdp"}, "sharding needs more than one process"),
        ({"devices": 2, "precision": "auto"}, "every process would choose its own"),
    ],
)
def test_contradicting_keys(keys, message):
    with pytest.raises(RequestError, match=message):
        require_consistent_processes(TrainSection(epochs=1, **keys))


def test_the_number_of_started_processes_must_match_the_recipe(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(RequestError, match="4 processes were started, but the recipe asks for 1"):
        require_consistent_processes(TrainSection(epochs=1))
    require_consistent_processes(TrainSection(epochs=1, devices=2, nodes=2, strategy="fsdp"))


def test_one_process():
    fabric = launch_processes(TrainSection(epochs=1, precision="fp32"), torch.device("cpu"))
    assert (fabric.world_size, fabric.global_rank, fabric.device) == (1, 0, torch.device("cpu"))
