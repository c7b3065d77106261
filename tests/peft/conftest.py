import pytest
import torch
from timm.models.vision_transformer import VisionTransformer


def tiny_vit(**kwargs: object) -> VisionTransformer:
    torch.manual_seed(0)
    settings = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 0}
    return VisionTransformer(**(settings | kwargs)).eval()


@pytest.fixture
def vit() -> VisionTransformer:
    return tiny_vit()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
