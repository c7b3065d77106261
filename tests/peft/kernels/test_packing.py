"""Low-rank additions of one layer side by side."""

import pytest
import torch

from rsft.peft.kernels.packing import (
    LowRankDelta,
    SeededDropout,
    apply_scale,
    draw_dropouts,
    matmul_dtype,
    pack_deltas,
)

WEIGHT = torch.zeros(6, 4)
X = torch.zeros(3, 4)


def delta(rows, rank, scale=1.0, dropout=0.0, shift=None):
    generator = torch.Generator().manual_seed(rank)
    a = torch.randn(rank, 4, generator=generator)
    b = torch.randn(rows.stop - rows.start, rank, generator=generator)
    return LowRankDelta(rows, a, b, scale, dropout, shift)


def test_ranks_stand_side_by_side_and_rows_in_their_place():
    one = delta(slice(0, 2), 1, 0.5)
    two = delta(slice(4, 6), 2, torch.tensor(3.0), shift=torch.tensor([1.0, 2.0]))
    packed = pack_deltas([one, two], WEIGHT, X)
    assert packed.a.shape == (3, 4) and packed.b.shape == (3, 6)
    assert packed.scale[:, 0].tolist() == [0.5, 3, 3]
    assert packed.shift[:, 0].tolist() == [0, 1, 2]
    update = packed.b.t() @ packed.a
    assert torch.equal(update[:2], one.b @ one.a) and not update[2:4].any()
    torch.testing.assert_close(update[4:], two.b @ two.a)


def test_without_additions_the_rank_is_0():
    packed = pack_deltas([], WEIGHT, X)
    assert packed.a.shape == (0, 4) and packed.b.shape == (0, 6)
    assert packed.scale.shape == (0, 1) and packed.shift is None
    assert pack_deltas([delta(slice(0, 2), 1)], WEIGHT, X).shift is None


def test_the_dtype_is_that_of_autocast_or_of_the_input():
    assert matmul_dtype(X.double()) == torch.float64
    assert matmul_dtype(torch.empty(1, device="meta")) == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert matmul_dtype(X) == torch.bfloat16
        assert pack_deltas([delta(slice(0, 2), 1)], WEIGHT, X).a.dtype == torch.bfloat16


def test_neighbors_of_one_rate_share_a_dropout():
    rows = slice(0, 2)
    deltas = [delta(rows, 2, dropout=0.1), delta(rows, 1, dropout=0.1), delta(rows, 3)]
    torch.manual_seed(0)
    dropouts = draw_dropouts(deltas)
    assert [(d.ranks, d.rate) for d in dropouts] == [
        (slice(0, 3), 0.1),
        (slice(3, 6), 0.0),
    ]
    assert draw_dropouts(deltas[2:]) == ()
    assert draw_dropouts(deltas)[0].seed != dropouts[0].seed


def test_a_seed_draws_one_mask():
    x = torch.ones(400, 50)
    dropout = SeededDropout(slice(0, 1), 0.25, 3)
    assert torch.equal(dropout(x), dropout(x))
    assert dropout(x).unique().tolist() == pytest.approx([0, 4 / 3])
    assert dropout(x).mean().item() == pytest.approx(1, abs=0.02)


def test_a_product_is_rounded_once():
    thin = torch.tensor([[1.0, 3.0]], dtype=torch.bfloat16)
    scale = torch.tensor([[1.001]])
    product = apply_scale(thin, scale)
    assert product.dtype == torch.bfloat16
    assert torch.equal(product, (thin.float() * scale).bfloat16())


def test_one_addition_to_all_rows_is_packed_without_a_copy():
    whole = delta(slice(0, 6), 2)
    packed = pack_deltas([whole], WEIGHT, X)
    assert packed.a is whole.a and packed.b.data_ptr() == whole.b.data_ptr()
    assert packed.scale is None and torch.equal(packed.b, whole.b.t())
    scaled = pack_deltas([delta(slice(0, 6), 2, 0.5)], WEIGHT, X)
    assert scaled.scale.tolist() == [[0.5], [0.5]]
