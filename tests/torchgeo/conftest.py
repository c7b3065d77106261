"""Fixtures of the tests of tasks."""

import pytest
import timm
import torch

from tests.torchgeo.tasks import chips, fit, make_task


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A checkpoint of a network of one channel, as TorchGeo reads it."""
    torch.manual_seed(1)
    network = timm.create_model("test_vit", in_chans=1, num_classes=2)
    path = tmp_path_factory.mktemp("weights") / "encoder.ckpt"
    state = {
        f"model.{name}": tensor
        for name, tensor in network.state_dict().items()
        if not name.startswith("head.")
    }
    torch.save({"hyper_parameters": {"model": "test_vit"}, "state_dict": state}, path)
    return str(path)


@pytest.fixture(scope="session")
def trained(weights, root, tmp_path_factory):
    """A trained task with learned scales, and its checkpoint."""
    torch.manual_seed(0)
    task = make_task(
        weights, learn_scales=True, loss={"name": "logit_adjustment", "tau": 0.5}
    )
    _, path = fit(task, chips(root), tmp_path_factory.mktemp("run"))
    return task.eval(), path
