import pytest
import torch
from torch import nn

from rsft.classifier import CosineHead
from rsft.finetune.heads import start_at_class_means

FEATURES = torch.tensor([[3.0, 0.0], [1.0, 0.0], [0.0, 5.0]])
LABELS = torch.tensor([0, 0, 1])


@pytest.mark.parametrize("head", [CosineHead(2, 2, 25), nn.Linear(2, 2)])
def test_weights_are_class_means(head):
    start_at_class_means(head, FEATURES, LABELS)
    assert head.weight.tolist() == [[1, 0], [0, 1]]
    assert head(FEATURES).argmax(1).tolist() == LABELS.tolist()


def test_a_class_without_chips():
    with pytest.raises(ValueError, match=r"\[2\]"):
        start_at_class_means(CosineHead(2, 3, 25), FEATURES, LABELS)


def test_cosine_logits_stay_within_the_scale():
    head = CosineHead(2, 2, scale=25)
    head.weight.data = torch.tensor([[10.0, 0.0], [0.0, 0.1]])
    assert head(torch.tensor([[2.0, 0.0]])).tolist() == [[25, 0]]
