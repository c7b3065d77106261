"""What a part of a run may do, and weights that are swapped."""

from types import SimpleNamespace

import torch
from torch.nn import functional as F

from rsft.models.classifier import Classifier, CosineHead
from rsft.peft import LoRA, attach
from rsft.training.objective import Objective
from rsft.training.parts.base import (
    Moment,
    Part,
    copy_weights,
    make_parts,
)
from tests.helpers.peft_models import tiny_vit, with_random_adapter


class First(Part):
    """Is always made."""

    name, title = "first", "First"


class Never(Part):
    """Is made for no recipe."""

    name, title = "never", "Never"

    @classmethod
    def make(cls, context):
        return None


class Last(Part):
    """Sees the parts that are made before it."""

    name, title = "last", "Last"

    @classmethod
    def make(cls, context):
        part = cls()
        part.earlier = [type(x) for x in context.parts]
        return part


def test_parts_are_made_in_order():
    context = SimpleNamespace(parts=[])
    parts = make_parts([First, Never, Last], context)
    assert [type(part) for part in parts] == [First, Last] and parts[1].earlier == [
        First
    ]


def test_a_part_without_hooks_changes_nothing():
    part = First()
    objective = Objective(F.cross_entropy, F.cross_entropy)
    assert part.prepare(Moment(0, 1, 0.5), objective) is objective
    assert not part.is_done()
    assert part.finish() == {} == part.state_dict()
    with part.use_weights():
        part.load_state_dict({})


def make_classifier():
    adapted = with_random_adapter(attach(tiny_vit(), LoRA(rank=2)))
    return Classifier(adapted, CosineHead(24, 3, scale=10.0), "token")


def test_copies_do_not_follow_the_training():
    classifier = make_classifier()
    copies = copy_weights(classifier)
    name, tensor = next(iter(classifier.learned_state().items()))
    expected = copies[name].clone()
    with torch.no_grad():
        tensor.add_(1)
    assert torch.equal(copies[name], expected) and not copies[name].requires_grad
