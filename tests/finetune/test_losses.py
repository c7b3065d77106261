import pytest
import torch
from torch.nn import functional as F

from rsft.finetune.losses import make_loss

COUNTS = torch.tensor([90.0, 10.0])
LOGITS = torch.zeros(1, 2)


def test_logit_adjustment_adds_the_log_prior():
    loss = make_loss("logit_adjustment", COUNTS, tau=1.0)
    assert loss(LOGITS, torch.tensor([0])).item() == pytest.approx(-torch.log(torch.tensor(0.9)).item())
    assert loss(LOGITS, torch.tensor([1])).item() == pytest.approx(-torch.log(torch.tensor(0.1)).item())


@pytest.mark.parametrize(("name", "tau"), [("ce", 1.0), ("logit_adjustment", 0.0)])
def test_without_a_prior_it_is_cross_entropy(name, tau):
    logits, labels = torch.randn(5, 2), torch.tensor([0, 1, 1, 0, 1])
    assert make_loss(name, COUNTS, tau)(logits, labels) == pytest.approx(F.cross_entropy(logits, labels))
