"""The classifier: frozen backbone, PEFT modules and head as one module.

Also averages of classifiers, and their outputs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar, cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.backbones import Backbone, fit_inputs, load_backbone
from rsft.backbones.loading import with_shrunk_windows
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.units import DIGITAL_UNITS
from rsft.errors import RequestError, WeightsError
from rsft.models.bundle.bundle import Bundle
from rsft.models.outputs import (
    VIEWS,
    ClassifierOutputs,
    TakeViews,
    average_outputs,
    tta_contract,
)
from rsft.peft import AdaptedModel, attach
from rsft.peft.modules.adapter_module import NamedTensors, transformer_blocks
from rsft.recipe.schema import EvaluateSection, HeadSection, Recipe
from rsft.types import Progress


def extract_features(vit: VisionTransformer, x: Tensor, pool: str) -> Tensor:
    """Return pooled features of a transformer.

    Args:
        vit: a timm vision transformer.
        x: images (B, P, S, S).
        pool: "token" for the class token, "avg" for the mean of the patch tokens or of
            the feature map.

    Returns:
        Features (B, D).
    """
    return _pool(vit, vit.forward_features(x), pool)


def _pool(vit: VisionTransformer, tokens: Tensor, pool: str) -> Tensor:
    if tokens.ndim == 4:  # the feature map of a hierarchical network
        return vit.forward_head(tokens, pre_logits=True)
    if pool == "token":
        pooled = tokens[:, 0]
    else:
        pooled = tokens[:, vit.num_prefix_tokens :].mean(dim=1)
    # identity if the network normalizes before pooling
    return cast(Tensor, vit.fc_norm(pooled))


class CosineHead(nn.Module):
    """Cosine head: logit = scale * cos(feature, class weight), without bias.

    The norm of a weight has no effect.

    Args:
        width: D, the width of the features.
        classes: number of classes.
        scale: factor from a cosine to a logit.
    """

    def __init__(self, width: int, classes: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, width))
        self.scale = scale
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits (B, C) of features (B, D)."""
        return self.scale * F.linear(
            F.normalize(features, dim=-1), F.normalize(self.weight, dim=-1)
        )


class HeadAverage(nn.Module):
    """Mean of the logits of several heads.

    One reads the final features, the others those of an earlier block each.

    Features of earlier blocks are more general, which helps classes with few chips
    (compare SciLT, arXiv 2604.03687).

    Args:
        final: the head on the final features.
        blocks: block index -> the head on the mean patch token after this block.
    """

    def __init__(self, final: nn.Module, blocks: Mapping[int, nn.Module]) -> None:
        super().__init__()
        self.final = final
        self.blocks = nn.ModuleDict(
            {str(block): blocks[block] for block in sorted(blocks)}
        )

    @property
    def heads(self) -> list[nn.Module]:
        """The head on the final features, then those on blocks in rising order."""
        return [self.final, *self.blocks.values()]

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the mean logits (B, C).

        Args:
            inputs: the features of all heads side by side, (B, heads * D); see
                `Classifier.head_inputs`.
        """
        heads = self.heads
        parts = inputs.chunk(len(heads), dim=-1)
        return torch.stack(
            [head(part) for head, part in zip(heads, parts, strict=True)]
        ).mean(dim=0)


class Prediction(NamedTuple):
    """Logits (B, C) and the pooled features (B, D) that they were computed from."""

    logits: Tensor
    features: Tensor


class SupportsPredict(Protocol):
    """A model in any engine that predicts logits and features of images."""

    def predict(self, x: Tensor, /) -> Prediction:
        """Return logits (B, C) and features (B, D) of images (B, P, S, S)."""


class Classifier(nn.Module):
    """A network that maps chips to logits.

    Args:
        adapted: the transformer with its PEFT modules.
        head: a module that maps pooled features to logits; a `HeadAverage` also reads
            features of earlier blocks.
        pool: "token" for the class token, "avg" for the mean of the patch tokens or of
            the feature map.

    Raises:
        ValueError: the head reads a block that the transformer lacks, or the last one.
    """

    adapted: AdaptedModel
    head: nn.Module

    def __init__(self, adapted: AdaptedModel, head: nn.Module, pool: str) -> None:
        super().__init__()
        self.adapted = adapted
        self.head = head
        self.pool = pool
        adapted.output_blocks = ()
        if isinstance(head, HeadAverage):
            adapted.output_blocks = tuple(map(int, head.blocks))

    def features(self, x: Tensor) -> Tensor:
        """Return pooled features (B, D).

        Args:
            x: images (B, P, S, S), or the output of `adapted.run_frozen_prefix` (B, N,
                D).
        """
        return self.final_features(self.head_inputs(x))

    def head_inputs(self, x: Tensor) -> Tensor:
        """Return what the head reads.

        These are the pooled features and, for a `HeadAverage`, those of its earlier
        blocks.

        Returns:
            Features side by side, (B, D) or (B, heads * D).
        """
        if x.ndim == 4:
            x = self.adapted.run_frozen_prefix(x)
        x, *block_tokens = self.adapted.run_suffix_with_blocks(
            x, class_token_only=self.pool == "token"
        )
        vit = cast(VisionTransformer, self.adapted.vit)
        return self.join_features(_pool(vit, x, self.pool), block_tokens)

    def join_features(self, features: Tensor, block_tokens: Sequence[Tensor]) -> Tensor:
        """Append the mean patch tokens of earlier blocks to the pooled features.

        Args:
            features: (B, D).
            block_tokens: tokens (B, N, D) after each block of `adapted.output_blocks`.

        Returns:
            The input of the head, (B, D) or (B, heads * D).
        """
        if not block_tokens:
            return features
        parts = [features]
        for tokens in block_tokens:
            mean = self.adapted.patch_tokens(tokens).mean(dim=1)
            parts.append(mean.to(features.dtype))
        return torch.cat(parts, dim=1)

    def final_features(self, head_inputs: Tensor) -> Tensor:
        """Return the pooled features (B, D) in the output of `head_inputs`."""
        return head_inputs.chunk(1 + len(self.adapted.output_blocks), dim=1)[0]

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, C) of images."""
        return self.predict(x).logits

    def predict(self, x: Tensor) -> Prediction:
        """Return logits (B, C) and features (B, D); arguments as in `features`."""
        inputs = self.head_inputs(x)
        return Prediction(self.head(inputs), self.final_features(inputs))

    @property
    def theta(self) -> list[nn.Parameter]:
        """The parameters that the inner loop trains: those of PEFT modules and head."""
        return [*self.adapted.theta, *self.head.parameters()]

    def learned_state(self) -> NamedTensors:
        """Return all learned tensors by name: PEFT modules, "gamma" and "head.*"."""
        head = {f"head.{key}": value for key, value in self.head.state_dict().items()}
        return {**self.adapted.adapter_state(), **head}

    def load_learned_state(self, state: NamedTensors) -> None:
        """Load a state from `learned_state`.

        Raises:
            WeightsError: keys or shapes do not fit.
        """
        adapter = {}
        head = {}
        for name, tensor in state.items():
            if name.startswith("head."):
                head[name.removeprefix("head.")] = tensor
            else:
                adapter[name] = tensor
        try:
            self.adapted.load_adapter_state(adapter)
            self.head.load_state_dict(head)
        except (ValueError, RuntimeError) as error:
            raise WeightsError(
                str(error), "adapter or head", "use weights of the same recipe"
            ) from error


_Network = TypeVar("_Network", bound=nn.Module)


def copy_to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Return a tensor on a device.

    A copy to a GPU starts from pinned memory, so that the program does not wait for it.

    The tensor itself is returned if it is on the device already.
    """
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def move_network(network: _Network, device: torch.device | str) -> _Network:
    """Move a network to a device.

    On a GPU, the weights of frozen convolutions are stored with the channels last.

    cuDNN computes such convolutions on tensor cores without converting the weights and
    the images at every call.

    The network is changed in place, and returned.
    """
    network.to(device)
    if torch.device(device).type == "cuda":
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and not module.weight.requires_grad:
                module.weight.data = module.weight.data.contiguous(
                    memory_format=torch.channels_last
                )
    return network


M = TypeVar("M", bound=SupportsPredict)
"""Type of a model."""


def average_predictions(predictions: Iterable[Prediction]) -> Prediction:
    """Return the mean of several predictions of the same B images.

    Returns:
        The logarithm of the mean probabilities (B, C) as logits, and the mean features
        (B, D).
    """
    logits, features = zip(*predictions, strict=True)
    return Prediction(*average_outputs([member.float() for member in logits], features))


class PredictionAverage(nn.Module, ABC):
    """A model that predicts the mean of several predictions (`average_predictions`)."""

    @abstractmethod
    def member_predictions(self, x: Tensor) -> Iterable[Prediction]:
        """Return the predictions to average, of images (B, P, S, S)."""

    def predict(self, x: Tensor) -> Prediction:
        """Return mean logits (B, C) and features (B, D) of images (B, P, S, S)."""
        return average_predictions(self.member_predictions(x))

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean logits (B, C) of images (B, P, S, S)."""
        return self.predict(x).logits


class Ensemble(PredictionAverage):
    """Ensemble of independent runs on one frozen backbone.

    Each prediction loads the state of every run in turn.

    Args:
        classifier: the classifier of the runs' common recipe, with its PEFT modules
            attached.
        states: the learned state of each run, from `Classifier.learned_state`.
    """

    def __init__(
        self, classifier: Classifier, states: Sequence[Mapping[str, Tensor]]
    ) -> None:
        super().__init__()
        self.classifier = classifier
        expected = classifier.learned_state()
        self.states = [
            {key: state.get(key, torch.zeros_like(x)) for key, x in expected.items()}
            for state in states
        ]

    def member_predictions(self, x: Tensor) -> Iterable[Prediction]:
        """Predict images with every run, in one pass through the frozen prefix."""
        tokens = self.classifier.adapted.run_frozen_prefix(x)
        for state in self.states:
            self.classifier.load_learned_state(state)
            yield self.classifier.predict(tokens)


class TestTimeAugmentation(PredictionAverage):
    """A model averaged over several views of a chip, such as crops or mirror images.

    Args:
        model: a model of images with side `size`.
        size: side of the views in pixels.
        take_views: returns the views of images, one of `VIEWS`.
    """

    __test__ = False  # pytest: the name begins with Test

    def __init__(
        self, model: SupportsPredict, size: int, take_views: TakeViews
    ) -> None:
        super().__init__()
        self.model = model
        self.size = size
        self.take_views = take_views

    def member_predictions(self, x: Tensor) -> Iterable[Prediction]:
        """Predict every view of images (B, P, S + m, S + m) with a margin m.

        The margin is 0 without crops.
        """
        return (
            self.model.predict(view.contiguous())
            for view in self.take_views(x, self.size)
        )


def with_tta(
    model: M, contract: Contract, evaluate: EvaluateSection
) -> tuple[M | TestTimeAugmentation, Contract]:
    """Return a model with the augmentation of `evaluate.tta`, and its contract.

    Args:
        model: a model of images as `contract` describes them.
        contract: the contract of the bundle.
        evaluate: the section `evaluate` of the recipe.

    Returns:
        Model and contract; both unchanged if `evaluate.tta` is "none".
    """
    if evaluate.tta == "none":
        return model, contract
    views = TestTimeAugmentation(model, contract.size, VIEWS[evaluate.tta])
    return views, tta_contract(contract, evaluate)


def tta_warning(recipe: Recipe, units: Iterable[str]) -> str:
    """Return a warning if `evaluate.tta` turns radar chips, else "".

    Args:
        recipe: the recipe of the run.
        units: units of the chips, or of the contract.
    """
    data = recipe.data
    is_calibrated = not set(units) <= set(DIGITAL_UNITS)
    if recipe.evaluate.tta != "turns" or not (
        data.augment == "sar" or data.declare is not None or is_calibrated
    ):
        return ""
    return (
        "evaluate.tta is turns, and the chips are radar images: where the radar looks"
        " in the same direction in all chips, turns can lower the accuracy (measured on"
        " MSTAR, docs/results.md); use evaluate.tta=mirror"
    )


class CountedBatches(Protocol):
    """Batches of inputs (B, P, S, S) and labels (B,), and the number of all chips."""

    count: int

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches."""


def collect_outputs(
    classifier: SupportsPredict,
    batches: CountedBatches,
    progress: Progress | None = None,
    task: str = "classifying",
) -> ClassifierOutputs:
    """Run batches through a classifier in evaluation mode and collect its outputs.

    Args:
        classifier: a classifier in any engine.
        batches: inputs (B, P, S, S) and labels, which are ignored.
        progress: called after each batch.
        task: name of the task for `progress`.

    Returns:
        Logits and features of all chips.
    """
    device = torch.device("cpu")
    if isinstance(classifier, nn.Module):  # only PyTorch has parameters
        device = next((x.device for x in classifier.parameters()), device)

    def predict(inputs: Tensor) -> list[Tensor]:
        with torch.inference_mode():
            return [
                output.float().cpu()
                for output in classifier.predict(copy_to_device(inputs, device))
            ]

    logits, features = join_rows(predict, batches, progress, task)
    return ClassifierOutputs(logits.numpy(), features.numpy())


def join_rows(
    compute: Callable[[Tensor], Sequence[Tensor]],
    batches: CountedBatches,
    progress: Progress | None,
    task: str,
) -> list[Tensor]:
    """Return the joined tensors (N, ...) of batches.

    Lists and their concatenation would need twice the memory.

    Args:
        compute: returns tensors (B, ...) of inputs (B, P, S, S).
        batches: batches of N chips.
        progress: called before the first batch and after each one.
        task: name of the task for `progress`.
    """
    rows = list[Tensor]()
    done = 0
    if progress is not None:
        progress(done, batches.count, task)
    for inputs, _ in batches:
        tensors = compute(inputs)
        rows = rows or [x.new_empty(batches.count, *x.shape[1:]) for x in tensors]
        for joined, tensor in zip(rows, tensors, strict=True):
            joined[done : done + len(inputs)] = tensor
        done += len(inputs)
        if progress is not None:
            progress(done, batches.count, task)
    return rows


def load_encoder(
    recipe: Recipe, bands: Sequence[str], sha256: str | None = None
) -> Backbone:
    """Load a recipe's frozen backbone, and fit its input layer to the bands.

    Args:
        recipe: the recipe.
        bands: names of the chips' bands.
        sha256: hash of the backbone in a bundle, which may be one of rsft 0.2.

    Raises:
        RequestError: the backbone is unknown, or does not support the planes or the
            input size.
        WeightsError: the weights of the backbone cannot be used.
    """
    section = recipe.backbone
    data = recipe.data
    weights = Path(section.weights) if section.weights else None
    encoder = load_backbone(
        section.name, data.size, weights, section.blocks, recipe.seed
    )
    if sha256 is not None and sha256 == encoder.shrunk_sha256:
        encoder = with_shrunk_windows(encoder)
    return fit_inputs(encoder, bands, data.bands, data.remap)


def build_classifier(encoder: Backbone, classes: int, recipe: Recipe) -> Classifier:
    """Build a new classifier on the backbone of a recipe.

    PEFT modules have their initial state, and the head is random.

    Args:
        encoder: the backbone, from `load_encoder`.
        classes: number of classes.
        recipe: the recipe; it has constant scales without a section `meta`.

    Raises:
        RequestError: the backbone lacks a site, a block or the class token, or has
            random weights that stay.
    """
    meta = recipe.meta
    pool = recipe.backbone.pool
    if pool == "token" and getattr(encoder.vit, "cls_token", None) is None:
        raise RequestError(
            f"{encoder.name} has no class token",
            "backbone.pool",
            "set backbone.pool=avg",
        )
    try:
        init_scale = meta.init_scale if meta else 1.0
        adapted = attach(
            encoder.vit,
            recipe.peft.build(),
            learn_scales=meta is not None,
            init_scale=init_scale,
        )
    except ValueError as error:
        hint = "set peft.method=full" if encoder.is_random else ""
        raise RequestError(
            str(error), f"section peft, backbone {encoder.name}", hint
        ) from error
    if encoder.is_random and not all(
        parameter.requires_grad for parameter in encoder.vit.parameters()
    ):
        raise RequestError(
            (
                f"{encoder.name} starts at random weights, and {recipe.peft.title} does"
                " not train all of them"
            ),
            "peft.method",
            "set peft.method=full",
        )
    try:
        return Classifier(
            adapted, build_head(encoder.width, classes, recipe.head), pool
        )
    except ValueError as error:
        hint = (
            f"name blocks from 0 to {len(transformer_blocks(encoder.vit)) - 2} of a"
            " plain vision transformer"
        )
        raise RequestError(
            str(error), f"head.earlier_blocks, backbone {encoder.name}", hint
        ) from error


def build_head(width: int, classes: int, section: HeadSection) -> nn.Module:
    """Build a head with random weights: linear, cosine, or a `HeadAverage`."""

    def build() -> nn.Module:
        if section.kind == "cosine":
            return CosineHead(width, classes, section.logit_scale)
        return nn.Linear(width, classes)

    final = build()
    if section.earlier_blocks:
        return HeadAverage(final, {x: build() for x in section.earlier_blocks})
    return final


def load_classifier(bundle: Bundle, device: str = "auto") -> Classifier | Ensemble:
    """Load the classifier of a bundle in evaluation mode.

    Args:
        bundle: an open bundle.
        device: "auto", "cpu" or "cuda".

    Returns:
        A merged classifier, or for several runs their ensemble.

    Raises:
        WeightsError: the backbone on this machine differs from that of the training.
    """
    target = choose_device(device)
    if len(bundle.members) > 1:
        classifier = move_network(_build_untrained(bundle), target).eval()
        states = [
            {key: value.to(target) for key, value in state.items()}
            for state in bundle.members
        ]
        return Ensemble(classifier, states)
    return move_network(load_merged_classifier(bundle), target).eval()


def load_merged_classifier(bundle: Bundle, run: int = 0) -> Classifier:
    """Load one run of a bundle, merged, in evaluation mode, on the CPU.

    Args:
        bundle: an open bundle.
        run: index of the run, for a bundle of several runs.

    Raises:
        WeightsError: the same cause as in `load_classifier`.
    """
    classifier = load_unmerged_classifier(bundle, "cpu", run)
    classifier.adapted.merge()
    return classifier


def load_unmerged_classifier(
    bundle: Bundle, device: str = "auto", run: int = 0
) -> Classifier:
    """Load one run of a bundle in evaluation mode, with PEFT modules attached.

    Args:
        bundle: an open bundle.
        device: "auto", "cpu" or "cuda".
        run: index of the run, for a bundle of several runs.

    Raises:
        WeightsError: the same cause as in `load_classifier`.
    """
    classifier = _build_untrained(bundle)
    classifier.load_learned_state(bundle.members[run])
    return move_network(classifier, choose_device(device)).eval()


def _build_untrained(bundle: Bundle) -> Classifier:
    """Build the classifier of a bundle before training."""
    encoder = load_encoder(bundle.recipe, bundle.contract.bands, bundle.backbone_sha256)
    if encoder.sha256 != bundle.backbone_sha256:
        raise WeightsError(
            (
                f"the weights of backbone {encoder.name} ({encoder.sha256[:12]}) differ"
                " from those of the training"
            ),
            f"bundle with backbone {bundle.backbone_sha256[:12]}",
            (
                f"install rsft {bundle.rsft_version}, which wrote the bundle, or train"
                " again"
            ),
        )
    return build_classifier(encoder, len(bundle.classes), bundle.recipe)


def choose_device(name: str) -> torch.device:
    """Return the torch device of "cpu", "cuda" or "auto".

    auto takes a GPU if the machine has one.

    Raises:
        RequestError: "cuda" on a machine without a GPU.
    """
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise RequestError(
            "this machine has no CUDA device",
            "--device or train.device",
            "use auto or cpu",
        )
    return torch.device("cuda" if has_gpu and name != "cpu" else "cpu")
