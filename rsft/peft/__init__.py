"""Parameter-efficient fine-tuning of a frozen vision transformer, one scale a site.

Needs torch alone and works on any timm ViT:

    adapted = rsft.peft.attach(vit, LoRA(rank=4, positions="qkvo12", blocks="all"), modulated=True)
"""

from rsft.peft.attach import Adapted, attach
from rsft.peft.methods import METHODS, LoRA, Method, register
from rsft.peft.modulator import Modulator
from rsft.peft.sites import POSITIONS, Site, select_blocks, select_positions

__all__ = [
    "METHODS",
    "POSITIONS",
    "Adapted",
    "LoRA",
    "Method",
    "Modulator",
    "Site",
    "attach",
    "register",
    "select_blocks",
    "select_positions",
]
