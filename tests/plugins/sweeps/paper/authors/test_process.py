"""The process that runs the code of the paper's authors."""

import sys

import pytest
import torch

from rsft.errors import RequestError, RsftError
from rsft.plugins.sweeps.paper.authors.process import (
    AuthorsTask,
    require_checkout,
    train_by_authors,
)
from tools.reproduction.against_authors import (
    Row,
    compare,
    judge,
    task_of,
    train_with_rsft,
    write_inputs,
)

TRAINER = """
import datasets
import torch
from torch.utils.tensorboard import SummaryWriter
from utils.config import _C


def load_vit_to_cpu(name, precision):
    raise NotImplementedError


class Model(torch.nn.Module):
    def __init__(self, vit):
        super().__init__()
        self.vit, self.head = vit.requires_grad_(False), torch.nn.Linear(64, 6, bias=False).double()

    def forward(self, x):
        normalize = torch.nn.functional.normalize
        return _C.scale * normalize(self.vit(x.double())) @ normalize(self.head.weight).T


class Trainer:
    def __init__(self, config):
        assert SummaryWriter("folder").add_scalar("loss", 1) is not None and config.prec == "fp32"
        self.config, self.criterion = config, torch.nn.CrossEntropyLoss()
        self.build_data_loader()
        self.model = Model(load_vit_to_cpu(config.backbone, config.prec))
        self.optim = torch.optim.SGD(self.model.head.parameters(), config.lr, 0.9, weight_decay=5e-4)

    def train(self):
        for epoch in range(self.config.num_epochs):
            for x, y in self.train_loader:
                self.optim.zero_grad()
                self.criterion(self.model(x), y).backward()
                self.optim.step()
"""


@pytest.mark.exhaustive
def test_code_of_others_takes_the_batches_in_its_own_process(tmp_path):
    (tmp_path / "code/utils").mkdir(parents=True)
    (tmp_path / "code/trainer.py").write_text(TRAINER)
    (tmp_path / "code/utils/config.py").write_text(
        "from yacs.config import CfgNode\n_C = CfgNode()\n_C.scale = 25\n"
    )
    write_inputs(tmp_path)
    recipe = (
        "peft.method=linear-probe loss.name=ce train.schedule=constant train.epochs=2"
    )
    row = Row("head", "LIFT", recipe, {"num_epochs": 2}, {})
    task = task_of(tmp_path, row)
    ours = train_with_rsft(task)
    theirs = train_by_authors(tmp_path / "code", "cpu", task)
    again = train_by_authors(tmp_path / "code", "cpu", task)
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            theirs.states[-1].values(), again.states[-1].values(), strict=True
        )
    )
    verdicts = judge(compare(ours, theirs), {"start head.weight": "random"})
    assert [verdict.claim for verdict in verdicts] == [
        "equal",
        "different",
    ] and verdicts[0].largest < 1e-12
    assert not {"trainer", "datasets", "utils"} & sys.modules.keys()
    (tmp_path / "code/trainer.py").write_text("raise ValueError('no GPU')")
    with pytest.raises(RsftError, match="authors failed") as error:
        train_by_authors(tmp_path / "code", "cpu", task)
    assert "ValueError: no GPU" in error.value.hint
    with pytest.raises(RequestError, match="not those of LIFT at 661ead9") as error:
        require_checkout("LIFT", tmp_path / "code")
    assert "git checkout 661ead9" in error.value.hint


def test_tensors_have_the_names_of_the_authors():
    task = AuthorsTask("", (), {}, {"q.a": "layers.*.lora_A"})
    assert task.authors_name("blocks.11.q.a") == "layers.11.lora_A"
    for name in ("blocks.1.q.b", "head.weight", "x.blocks.1.q.a"):
        assert task.authors_name(name) == name
