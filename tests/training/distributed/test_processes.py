import subprocess
import sys

import pytest
import torch

from rsft.errors import RequestError
from rsft.recipe.schema import TrainSection
from rsft.training.distributed.processes import Processes, launch_processes, require_consistent_processes


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
    processes = launch_processes(TrainSection(epochs=1, precision="fp32"), torch.device("cpu"))
    assert processes == Processes(torch.device("cpu"), dtype=None, rank=0, world_size=1)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_matrix_products_have_the_precision(precision, dtype):
    processes = launch_processes(TrainSection(epochs=1, precision=precision), torch.device("cpu"))
    with processes.autocast():
        assert (torch.eye(2) @ torch.eye(2)).dtype == dtype


@pytest.mark.slow
def test_one_process_does_not_import_lightning():
    code = (
        "import sys, torch; from rsft.training.single_run import *\n"
        "train = TrainSection(epochs=1, precision='fp32'); require_consistent_processes(train)\n"
        "launch_processes(train, torch.device('cpu')); sys.exit('lightning' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
