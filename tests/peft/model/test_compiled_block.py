import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch._dynamo.utils import counters

from rsft.errors import RequestError
from rsft.peft import AdaptFormer, LoRA, attach
from tests.helpers.closeness import close
from tests.helpers.peft_models import tiny_dinov3, tiny_vit, with_random_adapter


def gradients(adapted, images, split=None):
    if split is None:
        outputs = adapted(images)
    else:
        with adapted.joint(split):
            outputs = adapted(images)
    return [
        outputs.detach(),
        *torch.autograd.grad(outputs.square().sum(), [*adapted.theta, *adapted.gamma]),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("network", [tiny_vit, tiny_dinov3])
def test_blocks_share_their_graphs_and_give_the_same_gradients(images, network):
    torch._dynamo.reset()
    plain, compiled = (
        with_random_adapter(attach(network(), LoRA(rank=2), learn_scales=True))
        for _ in range(2)
    )
    counter = CompileCounter()
    compiled.compile_blocks(counter)
    for split in (None, 3):
        assert close(
            gradients(compiled, images, split), gradients(plain, images, split)
        )
    # the first block and the others, with and without a split
    assert 0 < counter.frame_count <= 4
    for adapted in (plain, compiled):
        adapted.checkpointing = True
    assert close(gradients(compiled, images), gradients(plain, images))
    # a checkpointed block has its scales beside B, which is two more
    assert counter.frame_count <= 6


@pytest.mark.slow
@pytest.mark.parametrize("learn_scales", [False, True])
@pytest.mark.parametrize(
    ("method", "most_graphs"), [(LoRA(rank=2), 4), (AdaptFormer(dim=4), 3)]
)
def test_a_block_is_one_graph_without_breaks(images, method, most_graphs, learn_scales):
    torch._dynamo.reset()
    counters.clear()
    plain, compiled = (
        with_random_adapter(
            attach(tiny_vit(), method, learn_scales=learn_scales)
        ).train()
        for _ in range(2)
    )
    counter = CompileCounter()
    compiled.compile_blocks(counter)
    for _ in range(2):
        assert close(gradients(compiled, images), gradients(plain, images))
    assert sum(counters["graph_break"].values()) == 0
    assert 0 < counter.frame_count <= most_graphs


@pytest.mark.slow
def test_without_a_compiler_the_step_is_refused(images):
    def no_compiler(*_):
        raise RuntimeError("no C++ compiler")

    torch._dynamo.reset()
    adapted = with_random_adapter(attach(tiny_vit(), LoRA(rank=2)))
    adapted.compile_blocks(no_compiler)
    with pytest.raises(RequestError, match="no C\\+\\+ compiler") as caught:
        gradients(adapted, images)
    assert "train.compile=false" in caught.value.hint


def test_dropout_cannot_be_compiled():
    adapted = attach(tiny_vit(), LoRA(rank=2, dropout=0.5))
    with pytest.raises(RequestError, match="dropout"):
        adapted.compile_blocks()


@pytest.mark.slow
def test_a_graph_has_the_sizes_of_its_batch():
    graphs = []

    def backend(module, inputs):
        graphs.append(inputs)
        return module

    torch._dynamo.reset()
    adapted = with_random_adapter(attach(tiny_vit(), LoRA(rank=2)))
    adapted.compile_blocks(backend)
    for size in (2, 3, 4):
        gradients(adapted, torch.randn(size, 3, 32, 32))
    numbers = {type(value) for inputs in graphs for value in inputs}
    assert torch.SymInt not in numbers
