import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from tests.helpers.peft_models import tiny_vit


@pytest.fixture
def vit() -> VisionTransformer:
    return tiny_vit()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
