import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from rsft.errors import RequestError
from rsft.models.classifier import CosineHead, HeadAverage
from rsft.recipe.schema import HeadSection
from rsft.training.init.head_init import fit_linear_probe, init_head, sample_shots

FEATURES = torch.tensor([[3.0, 0.0], [1.0, 0.0], [0.0, 5.0]])
LABELS = torch.tensor([0, 0, 1])
INITS = ["class-mean", "k-shot", "linear-probe"]
STARTS = [(kind, init) for kind in ("cosine", "linear") for init in INITS]
STARTS += [("linear", "lda")]


def clusters(chips=(40, 12, 4)):
    generator = torch.Generator().manual_seed(0)
    labels = torch.repeat_interleave(torch.arange(len(chips)), torch.tensor(chips))
    return (
        torch.eye(len(chips), 8)[labels] * 3
        + torch.randn(len(labels), 8, generator=generator),
        labels,
    )


def head(kind, classes=3, width=8):
    return (
        CosineHead(width, classes, 25)
        if kind == "cosine"
        else nn.Linear(width, classes)
    )


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_weights_are_class_means(kind):
    new_head = head(kind, 2, 2)
    init_head(new_head, HeadSection(), FEATURES, LABELS, 0)
    assert new_head.weight.tolist() == [[1, 0], [0, 1]]
    assert new_head(FEATURES).argmax(1).tolist() == LABELS.tolist()
    assert kind == "cosine" or new_head.bias.tolist() == [0, 0]


@pytest.mark.parametrize(("kind", "init"), STARTS)
def test_an_initial_head_separates_the_classes(kind, init):
    new_head = head(kind)
    features, labels = clusters()
    init_head(new_head, HeadSection(kind=kind, init=init), features, labels, 0)
    assert (new_head(features).argmax(1) == labels).float().mean() > 0.85


@pytest.mark.parametrize(("kind", "init"), STARTS)
def test_every_head_of_an_average_is_initialized_from_its_features(kind, init):
    average = HeadAverage(head(kind), {4: head(kind)})
    features, labels = clusters()
    section = HeadSection(init=init, kind=kind, earlier_blocks=[4])
    parts = (features, features.flip(1) + 1)
    init_head(average, section, torch.cat(parts, dim=1), labels, 3)
    for member, part in zip(average.heads, parts, strict=True):
        expected = head(kind)
        init_head(expected, section, part, labels, 3)
        assert torch.equal(member.weight, expected.weight)
    assert not torch.equal(average.final.weight, average.blocks["4"].weight)


def test_a_cosine_head_has_no_discriminant():
    with pytest.raises(ValidationError, match=r"head\.kind=linear"):
        HeadSection(init="lda")


def test_random_changes_no_weight():
    new_head = head("cosine")
    before = new_head.weight.clone()
    init_head(new_head, HeadSection(init="random"), *clusters(), 0)
    assert torch.equal(new_head.weight, before)


def test_shots_are_drawn_by_seed():
    _, labels = clusters()
    first = sample_shots(labels, 10, 0)
    again = sample_shots(labels, 10, 0)
    other = sample_shots(labels, 10, 1)
    # the rarest class has four
    assert torch.bincount(labels[first]).tolist() == [
        10,
        10,
        4,
    ]
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_with_one_shot_weights_are_its_features():
    new_head = head("cosine")
    features, labels = clusters()
    init_head(new_head, HeadSection(init="k-shot", shots=1), features, labels, 5)
    assert torch.allclose(
        new_head.weight, F.normalize(features[sample_shots(labels, 1, 5)])
    )


def test_a_probe_of_two_classes_gives_scikit_learns_probabilities():
    from sklearn.linear_model import LogisticRegression

    features, labels = clusters((30, 10))
    weight, bias = fit_linear_probe(features, labels, 0, cosine=False)
    inputs = features.double() / features.double().norm(dim=1).mean()
    probe = LogisticRegression(C=100.0, max_iter=1000, class_weight="balanced").fit(
        inputs.numpy(), labels.numpy()
    )
    probabilities = (features.double() @ weight.T + bias).softmax(1)
    assert torch.allclose(
        probabilities, torch.from_numpy(probe.predict_proba(inputs.numpy()))
    )


@pytest.mark.parametrize("init", INITS)
def test_a_class_without_chips(init):
    with pytest.raises(RequestError, match=r"\[2\]"):
        init_head(CosineHead(2, 3, 25), HeadSection(init=init), FEATURES, LABELS, 0)


def test_cosine_logits_stay_within_the_scale():
    new_head = CosineHead(2, 2, scale=25)
    new_head.weight.data = torch.tensor([[10.0, 0.0], [0.0, 0.1]])
    assert new_head(torch.tensor([[2.0, 0.0]])).tolist() == [[25, 0]]
