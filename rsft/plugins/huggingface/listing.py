"""What every PEFT method can do, tried on a small network."""

from collections.abc import Iterator
from dataclasses import dataclass

from timm.models.vision_transformer import VisionTransformer

from rsft.errors import RequestError
from rsft.peft import METHODS, Method, attach
from rsft.plugins.huggingface.method import HuggingFaceMethod
from rsft.plugins.huggingface.tuners import list_tuners


@dataclass(frozen=True)
class MethodTrial:
    """A PEFT method with its default settings on a vision transformer of one block.

    Attributes:
        name: `peft.method`, or "hf" and the name of a tuner.
        trained_parameters: their number; 0 for a method that cannot be used.
        merges: whether all of its modules can be folded into the weights.
        has_scales: whether the section `meta` can learn scales of its modules.
        reason: why it cannot be used; "" if it can.
    """

    name: str
    trained_parameters: int = 0
    merges: bool = False
    has_scales: bool = False
    reason: str = ""


def try_method(name: str, method: Method) -> MethodTrial:
    """Attach a method to a vision transformer of one block, and merge it."""
    vit = VisionTransformer(
        img_size=32, patch_size=16, embed_dim=256, depth=1, num_heads=4, num_classes=0
    )
    try:
        adapted = attach(vit, method)
    except ValueError as error:
        return MethodTrial(name, reason=str(error))
    count = sum(parameter.numel() for parameter in adapted.theta)
    has_scales = bool(adapted.sites)
    adapted.merge()
    return MethodTrial(name, count, not adapted.unmerged, has_scales)


def try_methods() -> Iterator[MethodTrial]:
    """Yield what each method of rsft and each tuner of the installed peft can do."""
    for name in METHODS:
        if name != HuggingFaceMethod.name:
            yield try_method(name, METHODS[name]())
    try:
        tuners = list_tuners()
    except RequestError as error:
        yield MethodTrial("hf", reason=f"{error.message}; {error.hint}")
        return
    for name in sorted(tuners):
        yield try_method(f"hf {name}", HuggingFaceMethod({"peft_type": name}))
