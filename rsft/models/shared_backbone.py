"""Several bundles on one frozen backbone: what lies below the first block that any of them adapts is computed once."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from rsft.errors import RequestError
from rsft.models.averaging import averaged, crops
from rsft.models.bundle.bundle import Bundle
from rsft.models.classifier import Answer, Classifier
from rsft.models.factory import choose_device, load_adapted


class Shared(nn.Module):
    """The classifiers of several bundles, merged.

    Attributes:
        runs: of each bundle.
        stage: what lies below it is shared: -1 the embedding, 0 to L - 1 a block.
    """

    def __init__(self, runs: Sequence[Sequence[Classifier]], size: int, tta: str = "none") -> None:
        super().__init__()
        self.runs = [list(own) for own in runs]
        self.every = nn.ModuleList(classifier for own in runs for classifier in own)
        self.size, self.tta = size, tta
        self.stage = min(classifier.adapted.first for own in runs for classifier in own)
        for own in runs:
            for classifier in own:
                classifier.adapted.merge()
        self.eval()

    def answers(self, x: Tensor) -> list[Answer]:
        """(B, P, S, S), larger ones for test-time crops -> logits (B, C) and features (B, D) of each bundle."""
        if self.tta == "none":
            return self._answers(x)
        views = [self._answers(crop) for crop in crops(x, self.size, mirrored=self.tta == "ten-crop")]
        return [averaged(own) for own in zip(*views, strict=True)]

    def _answers(self, x: Tensor) -> list[Answer]:
        below = self.runs[0][0].adapted.below(x, self.stage)
        found = [[classifier.answer(below, self.stage) for classifier in own] for own in self.runs]
        return [own[0] if len(own) == 1 else averaged(own) for own in found]


def load_shared(bundles: Sequence[Bundle], device: str = "auto") -> Shared:
    """Bundles that were trained on the same backbone, and take the same chips.

    Raises:
        RequestError: they were not, or do not.
        WeightsError: the backbone on this machine is another one.
    """
    for other in bundles[1:]:
        _must_agree(bundles[0], other)
    first = bundles[0]
    runs = [[load_adapted(bundle, "cpu", run) for run in range(len(bundle.members))] for bundle in bundles]
    shared = Shared(runs, first.contract.size, first.recipe.evaluate.tta)
    place = choose_device(device)
    return shared.to(place) if place.type != "cpu" else shared


def _must_agree(first: Bundle, other: Bundle) -> None:
    names = f"{first.recipe.name} ({first.sha256[:12]}) and {other.recipe.name} ({other.sha256[:12]})"
    fix = "classify with each by itself"
    if first.backbone_sha256 != other.backbone_sha256:
        both = " and ".join(f"{each.recipe.backbone.name} {each.backbone_sha256[:12]}" for each in (first, other))
        raise RequestError(f"{names} are of two backbones: {both}", "--also", fix)
    own, its = (bundle.contract.model_dump(exclude={"statistics"}) for bundle in (first, other))
    if differing := ", ".join(key for key in own if own[key] != its[key]):
        raise RequestError(f"{names} take other chips: their contracts differ in {differing}", "--also", fix)
    evaluate, others = first.recipe.evaluate, other.recipe.evaluate
    if evaluate.tta != others.tta or (evaluate.tta != "none" and evaluate.margin != others.margin):
        raise RequestError(f"{names} look at other test-time crops (evaluate.tta)", "--also", fix)
