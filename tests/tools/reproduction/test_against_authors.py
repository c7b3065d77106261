"""Equality with the authors' code, and the comparison itself."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rsft.plugins.sweeps.paper.authors.process import Trace
from tools.reproduction.against_authors import LORA, ROWS, compare, judge, run

LORA_ROW = next(row for row in ROWS if row.recipe == LORA)
META_ROW = next(row for row in ROWS if row.name == "MetaLoRA")
FLORA_ROW = next(row for row in ROWS if row.name == "FLoRA at six positions")
MUTATIONS = {  # what rsft does otherwise, and columns that must tell
    "init": (
        replace(LORA_ROW, recipe=f"{LORA} peft.init=width"),
        {"start q.a", "start v.a"},
    ),
    "rate": (
        replace(LORA_ROW, recipe=f"{LORA} train.lr=0.0101"),
        {"rate", "q.b", "v.b", "head.weight"},
    ),
    "position": (
        replace(LORA_ROW, recipe=f"{LORA} peft.positions=kv"),
        {"k.a", "k.b", "tuner.lora_list.0.q.lora_A", "v.b"},
    ),
    "scale": (replace(LORA_ROW, recipe=f"{LORA} peft.alpha=1.001"), {"q.b", "v.b"}),
    "Out": (
        replace(FLORA_ROW, recipe=f"{FLORA_ROW.recipe} peft.out_insertion=parallel"),
        {"out.a", "out.b", "loss"},
    ),
    "outer rate": (
        replace(META_ROW, recipe=f"{META_ROW.recipe} meta.lr=0.0101"),
        {"q.alpha", "v.alpha"},
    ),
    "decay": (
        replace(LORA_ROW, recipe=f"{LORA} train.weight_decay=0.001"),
        {"q.a", "v.a"},
    ),
}


def make_trace(*, steps=3, std=0.5, rate=0.01, tensors=("q.a", "q.b"), blocks=2):
    generator = torch.Generator().manual_seed(0)

    def draw(scale):
        return scale * torch.randn(8, 32, generator=generator, dtype=torch.float64)

    names = [
        f"blocks.{block}.{tensor}" for block in range(blocks) for tensor in tensors
    ]
    start = {
        name: draw(std) if name.endswith("a") else torch.zeros(8, 32).double()
        for name in names
    }
    start["head.weight"] = draw(1)
    states = [start]
    for _ in range(steps):
        states.append(
            {name: tensor + draw(rate) for name, tensor in states[-1].items()}
        )
    return Trace(
        start,
        [2.0 - 0.1 * step for step in range(steps)],
        [(rate, rate)] * steps,
        states[1:],
    )


def faults(table, reasons):
    texts = [
        verdict.text for verdict in judge(table, reasons) if verdict.claim == "FAULT"
    ]
    return set(", ".join(texts).split(", ")) if texts else set()


def test_equal_trainings_have_no_difference():
    table = compare(make_trace(), make_trace())
    assert list(table) == ["loss", "rate", "q.a", "q.b", "head.weight"] and list(
        table.index
    ) == ["start", 0, 1, 2]
    assert table.fillna(0).to_numpy().max() == 0
    assert judge(table, {}) == [("equal", 0.0, "")]


def test_differences_are_relative_to_the_update_of_all_blocks():
    ours = make_trace()
    theirs = make_trace()
    theirs.states[1]["blocks.1.q.b"] += 0.002
    # B starts at 0
    updates = [theirs.states[1][f"blocks.{block}.q.b"] for block in range(2)]
    expected = 0.002 * 16 / torch.stack(updates).norm()
    table = compare(ours, theirs)
    assert table["q.b"].tolist() == pytest.approx([0, 0, float(expected), 0])
    assert table.drop(columns="q.b").fillna(0).to_numpy().max() == 0
    ((claim, largest, columns),) = judge(table, {})
    assert (claim, columns) == ("FAULT", "q.b") and largest == pytest.approx(
        float(expected)
    )


def test_start_rate_and_positions_are_compared():
    ours = make_trace()

    def columns(**changes):
        return faults(compare(replace(ours, **changes), ours), {})

    narrow = {
        name: 0.25 * tensor if name.endswith("a") else tensor
        for name, tensor in ours.start.items()
    }
    assert columns(start=narrow) >= {"start q.a"}
    assert columns(
        start=ours.start | {"head.weight": 1.001 * ours.start["head.weight"]}
    ) >= {"start head.weight"}
    assert columns(rates=[(0.01, 0.01001)] * 3) == {"rate"}
    assert columns(losses=[2.0, 1.90001, 1.8]) == {"loss"}
    other = make_trace(tensors=("k.a", "k.b"))
    assert faults(compare(other, ours), {}) >= {
        "q.a",
        "q.b",
        "k.a",
        "k.b",
        "start q.a",
        "start k.b",
    }
    assert columns(losses=[2.0, float("nan"), 1.8]) == {"loss"}


def test_a_reason_explains_its_columns_and_must_have_a_difference():
    ours = make_trace()
    theirs = make_trace()
    theirs.start["head.weight"] *= 1.01
    reasons = {"start head.weight": "raw means"}
    table = compare(make_trace(), replace(theirs, states=ours.states))
    assert {verdict.claim: verdict.text for verdict in judge(table, reasons)}[
        "different"
    ] == "raw means"
    assert judge(table, {"all": "another rate"})[0].claim == "different"
    assert judge(compare(ours, ours), {"all": "another rate"}) == [
        ("FAULT", 0.0, "another rate")
    ]


@pytest.fixture(scope="module")
def tables():
    """Return the differences of all rows and mutations, with the authors' code."""
    variables = {"metalora": "RSFT_METALORA", "LIFT": "RSFT_LIFT"}
    if missing := [
        variable for variable in variables.values() if not os.environ.get(variable)
    ]:
        pytest.skip(
            f"no checkout of the authors' code: set {' and '.join(missing)} (see"
            " docs/reproduction.md)"
        )
    checkouts = {
        name: Path(os.environ[variable]) for name, variable in variables.items()
    }
    rows = [*ROWS, *(row for row, _ in MUTATIONS.values())]
    names = [*(f"{row.name} {row.code}" for row in ROWS), *MUTATIONS]
    return {
        name: table
        for name, (_, table) in zip(names, run(checkouts, rows), strict=True)
    }


@pytest.mark.authors
@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.name} {row.code}")
def test_training_equals_that_of_the_authors(tables, row):
    assert not faults(tables[f"{row.name} {row.code}"], row.reasons)


@pytest.mark.authors
@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_change_of_rsft_is_found(tables, name):
    row, columns = MUTATIONS[name]
    assert faults(tables[name], row.reasons) >= columns
