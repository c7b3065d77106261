import pytest
import torch

from rsft.peft.kernels.buffer_pool import Recycler

LIKE = torch.empty(0)


@pytest.fixture
def recycler():
    return Recycler(smallest=1000, slack=0)


def test_memory_is_used_again_once_the_last_view_has_gone(recycler):
    first = recycler.empty((40, 100), LIKE)
    at, view = first.data_ptr(), first[3:].t()
    del first
    view.fill_(1.0)
    second = recycler.empty((40, 100), LIKE).zero_()
    assert second.data_ptr() != at
    assert view.sum() == 3700
    del view
    assert recycler.empty((4000,), LIKE.to(torch.int32)).data_ptr() == at
    assert recycler.held == 2 * 16000


def test_it_holds_no_more_than_was_in_use_at_once(recycler):
    most = 3 * 80 * 400
    for rows in (30, 80, 60, 50, 20, 70):  # none fits in the place of another
        kept = [recycler.empty((rows, 100), LIKE) for _ in range(3)]
        assert 3 * rows * 400 <= recycler.held <= 9 / 8 * most
        kept.clear()


def test_a_block_serves_what_is_a_little_smaller(recycler):
    at = recycler.empty((9000,), LIKE).data_ptr()
    assert recycler.empty((8000,), LIKE).data_ptr() == at
    assert recycler.empty((7999,), LIKE).data_ptr() != at


def test_release_gives_back_what_is_idle(recycler):
    used, idle = recycler.empty((4000,), LIKE), recycler.empty((4000,), LIKE)
    del idle
    recycler.release()
    assert recycler.held == used.nbytes
    del used
    recycler.release()
    assert recycler.held == 0


def test_small_tensors_and_other_devices_are_left_to_torch(recycler):
    assert recycler.empty((0, 5), LIKE).shape == (0, 5)
    assert recycler.empty((249,), LIKE).shape == (249,)
    assert recycler.empty((9000,), torch.empty(0, device="meta")).is_meta
    assert recycler.held == 0
