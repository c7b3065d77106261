import pytest
import torch

from rsft.peft.kernels.buffer_pool import CpuBufferPool

LIKE = torch.empty(0)


@pytest.fixture
def pool():
    return CpuBufferPool(smallest=1000, slack=0)


def test_buffer_is_reused_after_its_last_view_is_deleted(pool):
    first = pool.empty((40, 100), LIKE)
    address = first.data_ptr()
    view = first[3:].t()
    del first
    view.fill_(1.0)
    second = pool.empty((40, 100), LIKE).zero_()
    assert second.data_ptr() != address
    assert view.sum() == 3700
    del view
    assert pool.empty((4000,), LIKE.to(torch.int32)).data_ptr() == address
    assert pool.allocated_bytes == 2 * 16000


def test_allocated_memory_is_the_peak_of_use(pool):
    peak = 3 * 80 * 400
    for rows in (30, 80, 60, 50, 20, 70):  # no size fits into the buffer of another
        tensors = [pool.empty((rows, 100), LIKE) for _ in range(3)]
        assert 3 * rows * 400 <= pool.allocated_bytes <= 9 / 8 * peak
        tensors.clear()


def test_buffer_is_reused_for_slightly_smaller_tensors(pool):
    address = pool.empty((9000,), LIKE).data_ptr()
    assert pool.empty((8000,), LIKE).data_ptr() == address
    assert pool.empty((7999,), LIKE).data_ptr() != address


def test_release_frees_unused_buffers(pool):
    used = pool.empty((4000,), LIKE)
    idle = pool.empty((4000,), LIKE)
    del idle
    pool.release()
    assert pool.allocated_bytes == used.nbytes
    del used
    pool.release()
    assert pool.allocated_bytes == 0


def test_small_tensors_and_other_devices_are_left_to_torch(pool):
    assert pool.empty((0, 5), LIKE).shape == (0, 5)
    assert pool.empty((249,), LIKE).shape == (249,)
    assert pool.empty((9000,), torch.empty(0, device="meta")).is_meta
    assert pool.allocated_bytes == 0


def test_buffer_is_no_view(pool):
    # autograd forbids changes in place of a view
    assert not pool.empty((40, 100), LIKE)._is_view()
