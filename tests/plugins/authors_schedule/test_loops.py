"""The schedule of the paper's code against that code, written anew in plain torch, and
its place in a run."""

import math
import os
import signal
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rsft.errors import Interrupted, RecipeError, RequestError
from rsft.models.classifier import Classifier, CosineHead
from rsft.models.devices import copy_batch
from rsft.peft import AdaptFormer, LoRA, LoTR, attach
from rsft.plugins.authors_schedule.loops import MetaloraLoop, MetaloraSplitter
from rsft.recipe.load import load_recipe
from rsft.recipe.schema import MetaSection, TrainSection
from rsft.training.finetune import finetune
from rsft.training.fit import take_steps, train_on_batch
from rsft.training.listeners import RunListener
from rsft.training.meta.bilevel import NonFiniteLossError
from rsft.training.objective import Objective
from tests.helpers.closeness import close
from tests.helpers.learners import open_learner
from tests.helpers.messages import mentions
from tests.helpers.peft_models import tiny_vit, with_random_adapter
from tests.helpers.plain_lora import plain_features

RANK = 2
LR = 0.05
META_LR = 0.3
DECAY = 5e-4
MOMENTUM = 0.9
START = 0.25


def make_classifier(method=None):
    vit = tiny_vit(depth=2).double()
    method = method or LoRA(rank=RANK, out_insertion="sequential")
    adapted = with_random_adapter(
        attach(vit, method, learn_scales=True, init_scale=START)
    )
    adapted.modulator.double()
    with torch.no_grad():
        adapted.modulator.gamma.fill_(math.log(math.expm1(START)))
    torch.manual_seed(5)
    return Classifier(adapted, CosineHead(24, 3, scale=10.0).double(), "token")


def make_loops(model, **meta):
    section = MetaSection(
        **(
            {
                "schedule": "metalora",
                "lr": META_LR,
                "init_scale": START,
                "weight_decay": DECAY,
            }
            | meta
        )
    )
    inner = torch.optim.SGD(model.theta, lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    return MetaloraLoop(model, inner, section, TrainSection(epochs=1))


def losses_of(outer_batch=None, trials=()):
    """Return the losses of a step."""
    return Objective(
        F.cross_entropy,
        F.cross_entropy,
        outer_batch=outer_batch,
        trial_batches=[(batch, 1.0) for batch in trials],
    )


def make_batch(seed, rows=6):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(rows, 3, 32, 32, generator=generator, dtype=torch.float64)
    return images, torch.randint(0, 3, (rows,), generator=generator)


class AuthorsTrainer:
    """MetaTrainer of metalora, trainer.py, on the weights of a classifier; the numbers
    are the lines of the file."""

    def __init__(self, model):
        self.vit = tiny_vit(depth=2).double()
        self.head = deepcopy(model.head)
        (module,) = model.adapted.adapter_modules
        self.lora = {
            site: [
                x.detach().t().clone().requires_grad_() for x in module.factors(site)
            ]
            for site in module.sites
        }
        self.alpha = {
            site: torch.tensor(START * RANK, dtype=torch.float64, requires_grad=True)
            for site in self.lora
        }
        tuner = [
            tensor
            for site, pair in self.lora.items()
            for tensor in (*pair, self.alpha[site])
        ]
        groups = [
            {"params": tuner, "lr": LR},
            {"params": self.head.parameters(), "lr": LR},
        ]
        # 430
        self.optim = torch.optim.SGD(groups, weight_decay=DECAY, momentum=MOMENTUM)
        options = {"lr": META_LR, "weight_decay": DECAY, "momentum": MOMENTUM}
        self.meta_optim = torch.optim.SGD(list(self.alpha.values()), **options)  # 1193
        self.use_meta = False

    def loss(self, batch):
        scales = {
            site: (alpha if self.use_meta else START * RANK) / RANK
            for site, alpha in self.alpha.items()
        }
        return F.cross_entropy(
            self.head(plain_features(self.vit, batch[0], self.lora, scales)[:, 0]),
            batch[1],
        )

    def train_epoch(self, batches):
        for batch in batches:  # 1314
            self.optim.zero_grad()
            self.loss(batch).backward()
            self.optim.step()

    def meta_optimization_step(self, trial_batches, outer_batch):
        # 1373
        backup = {
            site: [tensor.detach().clone() for tensor in pair]
            for site, pair in self.lora.items()
        }
        self.use_meta = True
        self.train_epoch(trial_batches)  # 1379
        self.meta_optim.zero_grad()
        loss = self.loss(outer_batch)  # 1435
        loss.backward()
        self.meta_optim.step()
        for site, pair in self.lora.items():  # 1453
            for tensor, original in zip(pair, backup[site], strict=True):
                tensor.data.copy_(original)
        self.use_meta = False
        return loss.detach()


def run_epochs(loops, epochs=3, batches=4, trials=2):
    """Take the same steps by the loops and by the authors' trainer; return it, and the
    outer losses of both."""
    authors = AuthorsTrainer(loops.classifier)
    losses = []
    for epoch in range(epochs):
        inner = [make_batch(100 * epoch + index) for index in range(batches)]
        trial = [make_batch(100 * epoch + 50 + index) for index in range(trials)]
        outer = make_batch(100 * epoch + 99)
        authors.train_epoch(inner)
        expected = authors.meta_optimization_step(trial, outer)
        for index, batch in enumerate(inner):
            objective = losses_of()
            if index == batches - 1:
                objective = losses_of(outer, trial)
            _, loss = take_steps(loops, batch, objective)
        losses.append((float(loss), float(expected)))
    return authors, losses


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_steps_equal_those_of_the_authors(checkpointing, monkeypatch):
    # the loops compute losses in float32
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: tensor)
    model = make_classifier()
    loops = make_loops(model)
    model.adapted.checkpointing = checkpointing
    start = loops.alpha.detach().clone()
    authors, losses = run_epochs(loops)
    (module,) = model.adapted.adapter_modules
    ours = [factor.t() for site in module.sites for factor in module.factors(site)]
    assert close(
        ours, [tensor for pair in authors.lora.values() for tensor in pair], 1e-10
    )
    assert close(list(model.head.parameters()), list(authors.head.parameters()), 1e-10)
    alpha = torch.stack([authors.alpha[site] for site in model.adapted.modulator.sites])
    assert close([loops.alpha], [alpha], 1e-10)
    assert (alpha - start).abs().max() > 0.01
    assert losses == [
        (pytest.approx(expected, rel=1e-10), expected) for _, expected in losses
    ]
    scales = [float(values.mean()) for values in loops.factors().values()]
    assert scales == pytest.approx((alpha / RANK).tolist(), rel=1e-10)


def test_all_other_passes_have_the_constant_scale():
    model = make_classifier()
    loops = make_loops(model)
    run_epochs(loops, epochs=1)
    assert list(model.adapted.modulator.scales().values()) == pytest.approx(
        [START] * 12, rel=1e-12
    )
    assert model.adapted.modulator.gamma.grad is None
    images, _ = make_batch(0)
    before = model(images)
    loops.alpha.data.mul_(7)
    assert torch.equal(model(images), before)


def test_an_outer_step_changes_the_head_and_the_momentum_but_not_the_modules():
    model = make_classifier()
    loops = make_loops(model)
    take_steps(loops, make_batch(0), losses_of())
    theta = deepcopy(model.adapted.theta)
    head = deepcopy(list(model.head.parameters()))
    momentum = loops.inner_optimizer.state[model.adapted.theta[0]][
        "momentum_buffer"
    ].clone()
    loops.outer_step(make_batch(0), losses_of(make_batch(2), [make_batch(1)]))
    assert all(
        torch.equal(a, b) for a, b in zip(model.adapted.theta, theta, strict=True)
    )
    assert not torch.equal(next(model.head.parameters()), head[0])
    assert not torch.equal(
        loops.inner_optimizer.state[model.adapted.theta[0]]["momentum_buffer"], momentum
    )


def test_a_loss_that_is_not_finite_leaves_the_modules():
    model = make_classifier()
    loops = make_loops(model)
    theta = deepcopy(model.adapted.theta)
    images, labels = make_batch(2)
    with pytest.raises(NonFiniteLossError):
        loops.outer_step(
            make_batch(0), losses_of((images * math.nan, labels), [make_batch(1)])
        )
    assert all(
        torch.equal(a, b) for a, b in zip(model.adapted.theta, theta, strict=True)
    )


def test_lotr_has_the_rank_of_its_core():
    model = make_classifier(LoTR(rank=3, positions="qo", out_insertion="sequential"))
    loops = make_loops(model)
    assert loops.alpha.tolist() == pytest.approx([START * 3] * 4)
    loops.outer_step(make_batch(0), losses_of(make_batch(2), [make_batch(1)]))
    assert (loops.alpha - START * 3).abs().max() > 1e-4


def test_the_factors_of_adaptformer_replace_its_own_scale_in_outer_steps():
    model = make_classifier(AdaptFormer(dim=2, scale="learnable", modulator="feature"))
    loops = make_loops(model)
    assert loops.alpha.shape == (2 * 24,) and loops.alpha.tolist() == pytest.approx(
        [START] * 48
    )
    (module,) = model.adapted.adapter_modules
    scale = module.get_submodule("blocks/0/mlp").scale
    images, labels = make_batch(2)
    loops.outer_step(make_batch(0), losses_of((images, labels), [make_batch(1)]))
    # no gradient in the trial step, and no decay
    assert scale not in loops.inner_optimizer.state
    assert (
        module.get_submodule("blocks/0/mlp").scale is scale
        and (loops.alpha - START).abs().min() > 1e-6
    )
    assert {len(values) for values in loops.factors().values()} == {24}
    assert min(values.std() for values in loops.factors().values()) > 1e-4
    take_steps(loops, make_batch(0), losses_of())
    assert "momentum_buffer" in loops.inner_optimizer.state[scale]


LABELS = np.repeat([0, 1, 2], [70, 25, 5])


def test_the_split_is_drawn_once_and_has_the_authors_sizes():
    splitter = MetaloraSplitter(
        LABELS, MetaSection(schedule="metalora", ratio=0.3, outer_every=2), 8, seed=0
    )
    inner = splitter.inner_subset(0)
    subset = splitter.meta_subset(0)
    assert (len(inner), len(subset)) == (int(100 * 0.7), 30)
    assert sorted([*inner, *subset]) == list(range(100))
    assert np.array_equal(splitter.meta_subset(9), subset)
    trials = np.concatenate(
        [batch for epoch in range(200) for batch in splitter.trial_batches(epoch)]
    )
    outer = np.concatenate([splitter.meta_batch(epoch, 3) for epoch in range(200)])
    assert (len(set(trials)), len(set(outer))) == (15, 15)
    assert set(trials) | set(outer) == set(subset)
    assert [len(set(batch)) for batch in splitter.trial_batches(0)] == [8, 8]
    again = MetaloraSplitter(
        LABELS, MetaSection(schedule="metalora", ratio=0.3), 8, seed=1
    )
    assert not np.array_equal(again.meta_subset(0), subset)


@pytest.mark.parametrize("count", [3, 4, 11])
def test_small_data_has_chips_in_every_part(count):
    splitter = MetaloraSplitter(
        np.zeros(count, int), MetaSection(schedule="metalora", ratio=0.1), 8, seed=0
    )
    parts = (
        splitter.inner_subset(0),
        splitter.trial_batches(0)[0],
        splitter.meta_batch(0, 0),
    )
    assert min(map(len, parts)) >= 1 and sum(map(len, parts)) == count


SCHEDULE = (
    "meta={schedule: metalora, lr: 0.05, init_scale: 0.5, outer_every: 2, ratio: 0.3}"
)
OVERRIDES = [
    SCHEDULE,
    "peft={rank: 4, dropout: 0.3, init: rank}",
    "train.lr=0.3",
    "train.accumulate_grad_batches=1",
    "train.checkpoint_steps=1",
]


def test_one_outer_step_follows_each_epoch(recipe_file):
    learner = open_learner(load_recipe(recipe_file, OVERRIDES))
    steps = learner.batches.steps(0)
    objectives = [
        learner.prepare_step(epoch, index)
        for epoch in range(2)
        for index in range(steps)
    ]
    due = [objective.outer_batch is not None for objective in objectives]
    assert due == ([False] * (steps - 1) + [True]) * 2
    assert [weight for _, weight in objectives[-1].trial_batches] == [1.0, 1.0]


def test_a_step_changes_the_factors(recipe_file):
    learner = open_learner(load_recipe(recipe_file, OVERRIDES))
    alpha = learner.loops.alpha
    before = alpha.detach().clone()
    learner.classifier.train()
    for index, batch in enumerate(learner.batches.training_loader(0)):
        train_on_batch(learner, copy_batch(batch, "cpu"), 0, index)
    assert isinstance(alpha, nn.Parameter) and not torch.equal(alpha, before)


class SignalAtStep(RunListener):
    def __init__(self, step):
        self.step = step

    def on_step(self, step):
        if step.done == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def results(run):
    metrics = pd.read_csv(run.folder / "metrics.csv").filter(regex="loss|val_")
    return (
        metrics.to_csv(),
        (run.folder / "modulator.csv").read_text(),
        run.metadata["bundle_sha256"],
    )


@pytest.mark.slow
@pytest.mark.parametrize("step", [5, 4, 2])
def test_a_resumed_run_equals_an_unbroken_one(recipe_file, tmp_path, step):
    recipe = load_recipe(recipe_file, OVERRIDES)
    unbroken = finetune(recipe, tmp_path / "unbroken")
    learned = pd.read_csv(unbroken.folder / "modulator.csv")
    assert (
        learned.groupby("epoch")["value"].std().gt(0).all()
        and learned["value"].between(0.4, 0.6).all()
    )
    with pytest.raises(Interrupted):
        finetune(recipe, tmp_path, SignalAtStep(step))
    assert results(finetune(recipe, tmp_path, resume=tmp_path / "bars/001")) == results(
        unbroken
    )


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["peft={method: adapter, dim: 2}"], "meta.schedule"),
        (["peft={method: lora, rank: 2, modulator: feature}"], "meta.schedule"),
        (["meta=null", "peft.modulator=feature"], "peft.modulator"),
        (
            [
                "meta={scale_invariant_steps: true}",
                "peft={method: lotr, modulator: feature}",
            ],
            "meta.scale_invariant_steps",
        ),
        (["train.optimizer=adamw"], "train.optimizer"),
        (["train.accumulate_grad_batches=2"], "train.accumulate_grad_batches"),
    ],
)
def test_what_the_authors_code_has_not_is_refused(
    recipe_file, tmp_path, overrides, key
):
    recipe = load_recipe(
        recipe_file, [SCHEDULE, "train.accumulate_grad_batches=1", *overrides]
    )
    with pytest.raises(RequestError) as error:
        finetune(recipe, tmp_path)
    assert error.value.location == key


def test_keys_without_effect_are_refused(recipe_file):
    with pytest.raises(RecipeError) as error:
        load_recipe(
            recipe_file, ["meta={schedule: metalora, order: 2, holdout: false}"]
        )
    mentions(error, "meta.order", "meta.holdout", "authors' code")
