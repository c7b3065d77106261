"""The operators of a training step as a GPU runs it, by counting them."""

import pytest

from tools.benchmarks import operators
from tools.benchmarks.operators import ROWS, WAITS, Sizes, count_operators, main


def count(name, blocks, bf16=False):
    return count_operators(ROWS[name](Sizes(blocks, width=16), bf16))


@pytest.mark.parametrize("bf16", [False, True])
def test_steps_need_no_more_operators_than_those_of_hugging_face_peft(bf16):
    """Per block, so that a network of three blocks stands for one of twelve."""
    pytest.importorskip("peft", reason="peft is not installed")
    names = "LoRA, Hugging Face PEFT", "LoRA", "MetaLoRA, inner step"
    totals = [
        [count(name, blocks, bf16).network.total() for blocks in (2, 3)]
        for name in names
    ]
    peft, lora, meta_lora = (three - two for two, three in totals)
    assert lora <= peft and meta_lora <= 1.1 * peft
    # what does not depend on the blocks is less than two blocks of a network of twelve
    fixed = totals[2][0] - 2 * meta_lora
    assert fixed + 12 * meta_lora <= 1.1 * (totals[0][0] + 10 * peft)


@pytest.mark.parametrize(
    "name",
    [
        "LoRA",
        "MetaLoRA, inner step",
        "MetaLoRA, joint step",
        "MetaLoRA, inner and outer step",
        "AdaptFormer",
    ],
)
def test_a_step_waits_for_no_value_before_the_optimizer(name):
    counter = count(name, 2)
    assert counter.waits == 0 and counter.optimizer["_fused_sgd_"] == 1
    # the losses are read after the step, each once
    loops = 2 if "joint" in name or "outer" in name else 1
    assert sum(counter.optimizer[wait] for wait in WAITS) == loops


def test_the_counter_sees_a_wait():
    loss = operators.torch.ones((), requires_grad=True)
    optimizer = operators.torch.optim.SGD([loss])

    def step():
        if loss > 0:
            loss.square().backward()
        optimizer.step()

    assert count_operators(step).waits == 1


def test_the_table_has_a_row_for_each_step(capsys):
    main(blocks=1)
    rows = [line for line in capsys.readouterr().out.splitlines() if "LoRA" in line]
    assert len(rows) == 5 and rows[1].startswith("| LoRA | ")
