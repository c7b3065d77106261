"""The same A and B as in Hugging Face PEFT's LoRA give the same outputs and
gradients."""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from rsft.peft.kernels import LowRankDelta, low_rank_block
from tests.helpers.closeness import close

peft = pytest.importorskip("peft", reason="Hugging Face PEFT is not installed")

LAYERS = {"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}


def lora(vit):
    torch.manual_seed(1)
    config = peft.LoraConfig(
        r=3, lora_alpha=6, target_modules=list(LAYERS), init_lora_weights=False
    )
    config.exclude_modules = ["patch_embed.proj"]
    return peft.get_peft_model(vit, config).double()


def test_outputs_and_gradients_equal_those_of_hugging_face_peft():
    torch.manual_seed(0)
    vit = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=2, num_classes=5
    )
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    model = lora(vit)
    expected = model(images)
    learned = [p for p in model.parameters() if p.requires_grad]
    assert len(learned) == 3 * 4 * 2
    expected_gradients = torch.autograd.grad(expected.square().sum(), learned)

    # timm's own step between patches and blocks, which it does not export
    x = vit._pos_embed(vit.patch_embed(images))
    for index, block in enumerate(vit.blocks):
        layers = {name: block.get_submodule(path) for name, path in LAYERS.items()}
        deltas = {
            name: [
                LowRankDelta(
                    slice(None),
                    layer.lora_A["default"].weight,
                    layer.lora_B["default"].weight,
                    2.0,
                )
            ]
            for name, layer in layers.items()
        }
        for name, path in LAYERS.items():
            block.set_submodule(path, layers[name].base_layer)
        x = low_rank_block(block, x, deltas, class_token_only=index == 2)
    ours = vit.forward_head(vit.norm(x))
    torch.testing.assert_close(ours, expected)
    assert close(torch.autograd.grad(ours.square().sum(), learned), expected_gradients)
