"""Parameter-efficient fine-tuning of a frozen vision transformer, one scale a site.

Needs torch alone (and safetensors for files), and works on any timm ViT:

    adapted = rsft.peft.model.attach(vit, LoRA(rank=4, positions="qkvo12", blocks="all"), modulated=True)
    tokens = adapted.forward_features(images)  # train adapted.theta, and adapted.gamma in an outer loop
    adapted.save("adapter.safetensors")
    vit = adapted.merge()
"""

from rsft.peft.huggingface import export_peft, import_peft
from rsft.peft.methods.bottleneck import Adapter, AdaptFormer
from rsft.peft.methods.composite import LoRAWithAdaptFormer, Together
from rsft.peft.methods.lora import LoRA, LoTR
from rsft.peft.methods.prompts import VPTDeep, VPTShallow
from rsft.peft.methods.registry import METHODS, Method, register
from rsft.peft.methods.selective import BitFit, FullTuning, LayerNormTuning, LinearProbe
from rsft.peft.methods.ssf import SSF
from rsft.peft.model.adapted_model import Adapted
from rsft.peft.model.attach import attach, load
from rsft.peft.modulator import Modulator
from rsft.peft.sites import POSITIONS, Site, select_blocks, select_positions

__all__ = [
    "METHODS",
    "POSITIONS",
    "SSF",
    "AdaptFormer",
    "Adapted",
    "Adapter",
    "BitFit",
    "FullTuning",
    "LayerNormTuning",
    "LinearProbe",
    "LoRA",
    "LoRAWithAdaptFormer",
    "LoTR",
    "Method",
    "Modulator",
    "Site",
    "Together",
    "VPTDeep",
    "VPTShallow",
    "attach",
    "export_peft",
    "import_peft",
    "load",
    "register",
    "select_blocks",
    "select_positions",
]
