"""Pseudo-labels of unlabeled chips."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rsft.data.chips.builder import build_store
from rsft.data.chips.record import ChipRecord, StoreDescription
from rsft.data.imagery.augmentation import Augmentation
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.stretch import IDENTITY_STRETCH
from rsft.data.loading.batches import ChipImages, EpochBatches
from rsft.errors import RequestError
from rsft.models.classifier import Prediction
from rsft.recipe.load import load_recipe
from rsft.recipe.registries import LOSSES
from rsft.recipe.schema import SemiSection
from rsft.training.parts.average import WeightAverage
from rsft.training.parts.pseudo_labels import PseudoLabeler

CONTRACT = Contract(
    units={"uint8": (IDENTITY_STRETCH,)},
    bands=("gray",),
    planes=("gray",),
    crop=None,
    size=8,
    mean=(0,),
    std=(1,),
)


class FakeClassifier:
    """Prefers class 0 for chips whose left half is brighter than the right one;
    features are the means of both."""

    def __init__(self, bias=0.0):
        self.bias = torch.tensor([bias])
        self.training = True
        self.theta = [self.bias]

    def parameters(self):
        return iter(self.theta)

    def train(self, mode=True):
        self.training = mode
        return self

    def eval(self):
        return self.train(False)

    def head_inputs(self, inputs):
        return 10 * torch.stack(
            [half.mean((1, 2, 3)) for half in inputs.chunk(2, dim=3)], 1
        )

    def final_features(self, features):
        return features

    def predict(self, inputs):
        assert not self.training
        features = self.head_inputs(inputs)
        return Prediction(features + torch.cat([self.bias, -self.bias]), features)

    def learned_state(self):
        return {"bias": self.bias}

    def load_learned_state(self, state):
        self.bias.copy_(state["bias"])


def chips(root, levels, classes=("a", "b")):
    """Return chips whose left and right halves have two levels each; class 0 is
    brighter on the left."""

    def image(left, right, noise):
        halves = np.repeat(np.repeat([[left, right]], 8, 0), 4, 1)
        return (halves + np.random.default_rng(noise).integers(0, 3, (8, 8)))[
            :, :, None
        ].astype(np.uint8)

    records = [
        ChipRecord(
            f"{i:03d}",
            "train",
            "ab"[right > left],
            root,
            lambda x=(left, right, i): image(*x),
        )
        for i, (left, right) in enumerate(levels)
    ]
    store = build_store(root, records, StoreDescription("halves", ("a", "b"), "none"))
    return ChipImages(store.root, store.table, classes, CONTRACT)


TRAIN = [(100 + x % 4, 20 + x % 3) for x in range(6)] + [
    (20 + x % 3, 100 + x % 4) for x in range(6)
]
POOL = [(90, 20), (20, 90), (60, 50), (50, 60), (250, 110), (55, 55)]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("halves")
    return chips(folder / "train", TRAIN), chips(folder / "pool", POOL, ())


def labeler(
    sources,
    *,
    average=None,
    shard=(0, 1),
    batch_size=16,
    counts=(30, 10),
    epochs=10,
    bias=0.0,
    loss="ce",
    **keys,
):
    train, pool = sources
    none = Augmentation("none")
    data = EpochBatches(
        train,
        train,
        batch_size=batch_size,
        eval_batch_size=4,
        augmentation=none,
        seed=0,
        shard=shard,
    )
    section = SemiSection(
        **({"teacher": "student", "start": 0.0, "foreign": 0.0} | keys)
    )
    recipe = SimpleNamespace(
        semi=section,
        data=SimpleNamespace(augment="none"),
        train=SimpleNamespace(epochs=epochs),
        loss=SimpleNamespace(build=LOSSES[loss]),
    )
    context = SimpleNamespace(
        setup=SimpleNamespace(
            classifier=FakeClassifier(bias),
            recipe=recipe,
            store=SimpleNamespace(classes=("a", "b")),
        ),
        batches=data,
        class_counts=torch.tensor(counts),
        parts=[average],
    )
    return PseudoLabeler(context, pool)


def drawn(sources, size, epoch=0, index=0):
    """Return the numbers of the chips of a step, and their network inputs (N, 1, 8,
    8)."""
    train, pool = sources
    rng = np.random.default_rng((0, epoch, 4, index))
    numbers = rng.integers(0, len(pool) + len(train), size)
    both = np.concatenate([pool.images, train.images])
    return numbers, torch.from_numpy(CONTRACT.normalize(list(both[numbers])))


def expected_labels(probabilities, threshold):
    confidence, labels = probabilities.max(1)
    return labels[confidence >= threshold], confidence >= threshold


def test_the_threshold(sources):
    numbers, inputs = drawn(sources, 16)
    probabilities = FakeClassifier().eval().predict(inputs).logits.softmax(1)
    for threshold in (0.0, 0.7, 0.95):
        give = labeler(sources, align="none", threshold=threshold, weight=3.0)
        batch = give.batch(0, 0, 0.0)
        labels, is_used = expected_labels(probabilities, threshold)
        assert torch.equal(batch.labels, labels) and torch.equal(
            batch.inputs, inputs[is_used]
        )
        assert batch.factor == 3.0 / 16
        assert give.counts.tolist() == [
            *torch.bincount(labels, minlength=2).tolist(),
            0,
            16,
        ]
        logits = torch.randn(len(labels), 2, generator=torch.Generator().manual_seed(0))
        expected = (
            3
            * torch.nn.functional.cross_entropy(logits, labels, reduction="none").sum()
            / 16
        )
        torch.testing.assert_close(batch.loss(logits), expected)
    # the training chips are drawn as well
    assert {number < len(POOL) for number in numbers} == {
        True,
        False,
    }


@pytest.mark.parametrize("loss", ["logit_adjustment", "balanced_softmax"])
def test_the_loss_is_adjusted_to_the_shares_of_the_pseudo_labels(sources, loss):
    give = labeler(sources, align="none", threshold=0.6, loss=loss)
    shares = torch.tensor([0.75, 0.25])
    for index in range(3):
        batch = give.batch(0, index, 0.0)
        counts = torch.bincount(batch.labels, minlength=2)
        shares = 0.98 * shares + 0.02 * counts / counts.sum()
        logits = torch.randn(
            len(batch.labels), 2, generator=torch.Generator().manual_seed(index)
        )
        expected = (
            torch.nn.functional.cross_entropy(
                logits + shares.log(), batch.labels, reduction="sum"
            )
            / 16
        )
        torch.testing.assert_close(batch.loss(logits), expected)
    again = labeler(sources, align="none", threshold=0.6, loss=loss)
    again.load_state_dict(give.state_dict())
    assert torch.equal(again.shares, give.shares) and not torch.equal(
        give.shares, torch.tensor([0.75, 0.25])
    )


@pytest.mark.parametrize(
    ("align", "target"), [("uniform", (0.5, 0.5)), ("labels", (0.75, 0.25))]
)
def test_probabilities_are_aligned(sources, align, target):
    give = labeler(sources, align=align, threshold=0.6, bias=1.0)
    target, mean = torch.tensor(target), torch.tensor(target)
    for index in range(3):
        _, inputs = drawn(sources, 16, 0, index)
        probabilities = FakeClassifier(1.0).eval().predict(inputs).logits.softmax(1)
        mean = 0.98 * mean + 0.02 * probabilities.mean(0)
        aligned = probabilities * (target / mean)
        labels, is_used = expected_labels(aligned / aligned.sum(1, keepdim=True), 0.6)
        batch = give.batch(0, index, 0.0)
        torch.testing.assert_close(give.mean_probabilities, mean)
        assert torch.equal(batch.labels, labels) and torch.equal(
            batch.inputs, inputs[is_used]
        )


def test_classes_without_pseudo_labels_are_named(sources, caplog):
    give = labeler(sources, align="none")
    give.batch(0, 0, 0.0)
    assert give.finish() == {"classes_without_pseudo_labels": []} and not caplog.text
    give = labeler(sources, align="none", bias=40.0)  # all chips are of the first class
    for index in range(150):
        give.batch(0, index, 0.0)
    assert give.finish() == {"classes_without_pseudo_labels": ["b"]}
    assert "pseudo-label of b" in caplog.text and "data.unlabeled" in caplog.text


def test_no_alignment_leaves_the_mean(sources):
    give = labeler(sources, align="none")
    give.batch(0, 0, 0.0)
    assert give.mean_probabilities.tolist() == [0.5, 0.5]


def test_nothing_before_the_start(sources):
    give = labeler(sources, start=0.3)
    assert give.batch(2, 9, 0.29) is None and give.counts.tolist() == [0, 0, 0, 0]
    assert give.batch(3, 0, 0.3) is not None and give.counts[-1] == 16


def test_no_chip_above_the_threshold(sources):
    give = labeler(sources, align="none", threshold=0.9999999)
    assert give.batch(0, 0, 0.0) is None and give.counts.tolist() == [0, 0, 0, 16]


@pytest.mark.parametrize(
    "position", [(0, 0), (3, 5)]
)  # also if use begins within an epoch, or between two refreshes
def test_foreign_chips_have_no_pseudo_label(sources, position):
    numbers, _ = drawn(sources, 64, *position)
    assert 4 in numbers
    give = labeler(
        sources, align="none", threshold=0.9, foreign=0.01, batch_size=64, epochs=40
    )
    batch = give.batch(*position, 0.5)
    assert give.distance is not None and give.counts[-2] >= (numbers == 4).sum() > 0
    is_brightest = batch.inputs.amax((1, 2, 3)) > 240 / 255
    assert not is_brightest.any() and len(batch.labels) > 0
    accepts_all = labeler(sources, align="none", threshold=0.9, batch_size=64).batch(
        *position, 0.5
    )
    assert (accepts_all.inputs.amax((1, 2, 3)) > 240 / 255).any()


def test_the_distance_is_fitted_anew(sources):
    give = labeler(sources, foreign=0.1, epochs=200)
    fits = []
    # the distance of other chips, without training for it
    give._fit_distance = lambda: (
        fits.append(1) or setattr(give, "distance", give.distance or ())
    )
    # no chip is foreign
    give._is_foreign = lambda features: torch.zeros(len(features), dtype=torch.bool)
    for epoch in range(12):
        for index in range(2):
            give.batch(epoch, index, 0.5)
    assert len(fits) == 3  # in the epochs 0, 4 and 8 of 200


def test_the_mean_gives_the_labels_and_the_network_gets_its_weights_back(sources):
    give = labeler(sources, teacher="ema", align="none", threshold=0.0)
    average = WeightAverage(give.classifier, 0.9)
    average.state["bias"] = torch.tensor([40.0])
    give.average = average
    give.classifier.train()
    assert give.batch(0, 0, 0.0).labels.tolist() == [0] * 16
    assert give.classifier.bias.item() == 0 and give.classifier.training


def test_a_step_does_not_depend_on_earlier_ones(sources):
    first, second = (
        labeler(sources, align="none", foreign=0.1, threshold=0.0) for _ in range(2)
    )
    first.batch(0, 0, 0.0)
    first.batch(0, 1, 0.0)
    second.load_state_dict(first.state_dict())
    batches_of_both = [give.batch(0, 2, 0.0) for give in (first, second)]
    assert torch.equal(batches_of_both[0].inputs, batches_of_both[1].inputs)
    assert first.counts.tolist() == second.counts.tolist()


@pytest.mark.parametrize(("size", "world_size"), [(16, 2), (7, 2), (2, 3)])
def test_processes_share_a_step(sources, monkeypatch, size, world_size):
    """Without communication, each process gives its part; together they give the step
    of one process."""
    whole = labeler(sources, align="none", threshold=0.0, batch_size=size).batch(
        0, 0, 0.0
    )
    parts = []
    factors = []
    for rank in range(world_size):
        batch = labeler(
            sources,
            align="none",
            threshold=0.0,
            batch_size=size,
            shard=(rank, world_size),
        ).batch(0, 0, 0)
        weighted = [(batch.factor / world_size, x) for x in batch.inputs]
        parts += [x for factor, x in weighted if factor]
        factors += [factor for factor, _ in weighted if factor]
    order = [
        position
        for rank in range(world_size)
        for position in range(rank, size, world_size)
    ]
    assert torch.equal(torch.stack(parts), whole.inputs[order])
    assert factors == pytest.approx([whole.factor] * size)


def test_the_augmentation_of_a_chip_does_not_depend_on_the_other_chips(sources):
    """It is that of its position in the step, for any number of processes and of
    pseudo-labels."""
    give = labeler(sources, align="none", threshold=0.0)
    give.augmentations = (
        Augmentation("sar", 1, 8),
        Augmentation("sar", 1, 8, strong=True),
    )
    numbers = np.arange(6)
    # augmented chips, before the network sees them
    every = give._load(numbers, np.arange(6), 0, 0, strong=True)
    assert torch.equal(
        give._load(numbers, np.array([1, 4]), 0, 0, strong=True), every[[1, 4]]
    )
    assert not torch.equal(give._load(numbers, np.arange(6), 0, 0, strong=False), every)
    assert not torch.equal(give._load(numbers, np.arange(6), 0, 1, strong=True), every)


@pytest.mark.parametrize(
    ("overrides", "location", "hint"),
    [
        (["semi={}"], "data.unlabeled", "folder"),
        (["data.unlabeled=x", "data.augment=none"], "data.augment", "data.augment=sar"),
        (
            ["semi={}", "data.unlabeled=x", "data.augment=none"],
            "data.augment",
            "data.augment=sar",
        ),
    ],
)
def test_keys_that_contradict_each_other(recipe_file, overrides, location, hint):
    with pytest.raises(RequestError) as caught:
        PseudoLabeler.check(load_recipe(recipe_file, overrides))
    assert caught.value.location == location and hint in caught.value.hint
    PseudoLabeler.check(load_recipe(recipe_file, ["data.unlabeled=x", "semi={}"]))
    PseudoLabeler.check(load_recipe(recipe_file, ["data.unlabeled=x"]))
    PseudoLabeler.check(load_recipe(recipe_file, ["data.augment=none"]))
