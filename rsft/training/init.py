"""Initialize the head from features of the training chips, and cache outputs of frozen blocks.

Features before training, and without augmentation the tokens that enter the first adapted block, never change. Both are
cached next to the cache of the chips.
"""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.data.loading.batches import ChipImages, UnaugmentedLoader
from rsft.errors import RequestError
from rsft.models.classifier import Classifier, HeadAverage, copy_to_device
from rsft.peft import AdaptedModel
from rsft.recipe.schema import HeadSection
from rsft.types import Indices, Progress
from rsft.utils.atomic_files import atomic_file


def init_head(head: nn.Module, section: HeadSection, features: Tensor, labels: Tensor, seed: int) -> None:
    """Initialize the weights of a head by the method `head.init`; "random" changes nothing.

    With "class-mean" and "k-shot", biases are set to 0.

    Args:
        head: linear or cosine head of C classes, or a `HeadAverage` of such heads.
        section: the section `head` of the recipe.
        features: features of the training chips (N, D); for a `HeadAverage` those of its heads side by side.
        labels: class indices of these chips (N,).
        seed: the seed of the recipe.

    Raises:
        RequestError: a class has no training chip.
    """
    if section.init == "random":
        return
    if isinstance(head, HeadAverage):
        for member, part in zip(head.heads, features.chunk(len(head.heads), dim=1), strict=True):
            init_head(member, section, part, labels, seed)
        return
    weight, bias = head.weight, getattr(head, "bias", None)
    assert isinstance(weight, Tensor)
    n_classes = len(weight)
    counts = torch.bincount(labels, minlength=n_classes)
    if not counts.all():
        empty = (counts == 0).nonzero().flatten().tolist()
        raise RequestError(f"classes {empty} have no training chip", "head.init", "use head.init=random")
    if section.init == "linear-probe":
        new_weight, new_bias = fit_linear_probe(features, labels, seed, cosine=section.kind == "cosine")
    else:
        if section.init == "k-shot":
            chosen = sample_shots(labels, section.shots, seed)
            features, labels = features[chosen], labels[chosen]
        # the mean of the L2-normalized features of each class, normalized again
        sums = features.new_zeros(n_classes, features.shape[1]).index_add_(0, labels, F.normalize(features, dim=1))
        new_weight, new_bias = F.normalize(sums, dim=1), torch.zeros(n_classes)
    with torch.no_grad():
        weight.copy_(new_weight)
        if isinstance(bias, Tensor):
            bias.copy_(new_bias)


def sample_shots(labels: Tensor, shots: int, seed: int) -> Tensor:
    """Draw chips of each class without replacement.

    Args:
        labels: (N,).
        shots: number of chips of a class; of a class with fewer chips, all are drawn.
        seed: the seed of the recipe.

    Returns:
        Sorted indices (M,).
    """
    rng, numbers = np.random.default_rng((seed, 3)), labels.cpu().numpy()
    chosen = [rng.permutation(np.flatnonzero(numbers == label))[:shots] for label in np.unique(numbers)]
    return torch.from_numpy(np.sort(np.concatenate(chosen))).to(labels.device)


def fit_linear_probe(features: Tensor, labels: Tensor, seed: int, *, cosine: bool) -> tuple[Tensor, Tensor]:
    """Fit scikit-learn's multinomial logistic regression with balanced class weights.

    For a cosine head, features are L2-normalized and biases are 0. For a linear head, features are divided by their
    mean norm, and the returned weights are rescaled to the original features. For two classes scikit-learn fits one
    weight vector, which is split into halves of opposite sign; this does not change the probabilities.

    Args:
        features: (N, D).
        labels: (N,).
        seed: the seed of the recipe.
        cosine: True for a cosine head, False for a linear head.

    Returns:
        Weights (C, D) and biases (C,).
    """
    from sklearn.linear_model import LogisticRegression

    norms = features.double().norm(dim=1, keepdim=True)
    inputs = features.double() / (norms if cosine else norms.mean())
    probe = LogisticRegression(
        C=100.0, max_iter=1000, class_weight="balanced", fit_intercept=not cosine, random_state=seed
    )
    probe.fit(inputs.cpu().numpy(), labels.cpu().numpy())
    weight = torch.from_numpy(np.atleast_2d(probe.coef_)) / (1 if cosine else norms.mean().cpu())
    intercept = torch.from_numpy(np.broadcast_to(probe.intercept_, len(weight)).copy())
    if len(weight) == 1:
        weight, intercept = torch.cat([-weight, weight]) / 2, torch.cat([-intercept, intercept]) / 2
    return weight, intercept


class CachedPrefixTokens:
    """Source of batches of cached tokens (B, T, D), float32, in place of images.

    The tokens are computed once, into a memory-mapped file next to the cache of the chips. The name of the file depends
    on the images, the backbone and the number of blocks.

    Args:
        chips: the chips to compute tokens of.
        adapted: the network.
        key: identifies frozen weights and precision.
        batch_size: chips in a forward pass.
        progress: called after each batch of chips.

    Attributes:
        labels: class of every chip (N,).
        tokens: the tokens of every chip (N, T, D), memory-mapped.
    """

    def __init__(
        self, chips: ChipImages, adapted: AdaptedModel, key: str, batch_size: int, progress: Progress | None = None
    ) -> None:
        self.labels, self.contract, self.names = chips.labels, chips.contract, chips.names
        path = feature_cache_path(chips, key, adapted.prefix_end, *_kept_state(adapted))
        device, done = next(adapted.vit.parameters()).device, 0
        with FileLock(path.parent / "lock"):
            if not path.is_file():
                with atomic_file(path) as temporary:
                    output: np.memmap[Any, np.dtype[np.float32]] | None = None
                    for inputs, _ in chips.batches(batch_size):
                        tokens = adapted.run_frozen_prefix(copy_to_device(inputs, device)).float().cpu().numpy()
                        if output is None:
                            shape = len(chips), *tokens.shape[1:]
                            output = np.lib.format.open_memmap(temporary, "w+", np.float32, shape)
                        output[done : done + len(tokens)] = tokens
                        done += len(tokens)
                        if progress is not None:
                            progress(done, len(chips), "frozen blocks")
                    assert output is not None
                    output.flush()
        self.tokens: NDArray[np.float32] = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return tokens (B, T, D) and labels (B,) of the chips with these indices (B,)."""
        return torch.from_numpy(self.tokens[indices]), torch.from_numpy(self.labels[indices])


def can_cache_prefix(chips: ChipImages, adapted: AdaptedModel) -> bool:
    """Return whether the frozen prefix yields tokens after a block, and the disk has room for twice the tokens."""
    if adapted.prefix_end <= 0:
        return False
    device = next(adapted.vit.parameters()).device
    prefix = adapted.run_frozen_prefix(copy_to_device(chips.batch(np.arange(1))[0], device))
    if prefix.ndim == 4:  # the images: the network cannot be run from tokens
        return False
    needed_bytes = len(chips) * prefix.numel() * 4
    return needed_bytes * 2 < shutil.disk_usage(feature_cache_path(chips).parent).free


def feature_cache_path(chips: ChipImages, *key: object) -> Path:
    """Return the path of a cache file next to the cache of the chips, named after images, normalization and a key.

    Args:
        chips: the chips from which the content is computed.
        *key: other values on which the content depends.
    """
    images = chips.cache_file
    moments = (chips.contract.mean, chips.contract.std)  # the cache of the chips holds bytes before normalization
    digest = hashlib.sha256(repr((*key, moments)).encode()).hexdigest()[:16]
    return images.with_name(f"{images.stem}-{digest}.npy")


def _kept_state(adapted: AdaptedModel) -> list[str]:
    """Return the hash of the learned tensors and scales within the prefix, which a start bundle brings; else nothing.

    Without such tensors, the names of cache files are those of earlier versions.
    """
    state = {name: value for name, value in adapted.adapter_state().items() if name != "gamma"}
    kept = {name: value for name, value in state.items() if adapted.stage_of(name) < adapted.prefix_end}
    scales = {} if adapted.modulator is None else adapted.modulator.scales()
    kept |= {str(x): torch.tensor(scale) for x, scale in scales.items() if x.block < adapted.prefix_end}
    if not kept:
        return []
    digest = hashlib.sha256()
    for name in sorted(kept):
        digest.update(name.encode() + kept[name].detach().cpu().contiguous().numpy().tobytes())
    return [digest.hexdigest()]


def compute_initial_features(
    classifier: Classifier, chips: ChipImages, weights: str, batch_size: int, progress: Progress | None = None
) -> Tensor:
    """Return the inputs of the head for all chips before training, without augmentation.

    They are cached next to the cache of the chips. The key is made of images and frozen weights only, because most
    methods do not change the outputs at first. For methods that do (VPT), features are not cached.

    Args:
        classifier: the classifier before training.
        chips: the chips to compute features of.
        weights: hash of the frozen backbone.
        batch_size: chips in a forward pass.
        progress: called after each batch of chips.

    Returns:
        Features (N, D), or (N, heads * D) as `Classifier.head_inputs` returns them; float32, on the device of the
        classifier.
    """
    everything = np.arange(len(chips))
    if not classifier.adapted.method.is_identity_at_init:
        return compute_features(classifier, chips, everything, batch_size, progress)
    blocks = classifier.adapted.output_blocks
    path = feature_cache_path(chips, "features", weights, classifier.pool, *([blocks] if blocks else []))
    with FileLock(path.parent / "lock"):
        if not path.is_file():
            features = compute_features(classifier, chips, everything, batch_size, progress)
            with atomic_file(path) as temporary, temporary.open("wb") as file:
                np.save(file, features.cpu().numpy())
        return torch.from_numpy(np.load(path)).to(next(classifier.parameters()).device)


@torch.no_grad()
def compute_features(
    classifier: Classifier, chips: ChipImages, indices: Indices, batch_size: int, progress: Progress | None = None
) -> Tensor:
    """Return the inputs of the head for some chips, without augmentation.

    Args:
        classifier: the classifier, which is set to evaluation mode.
        chips: the chips.
        indices: which of them (M,).
        batch_size: chips in a forward pass.
        progress: called after each batch of chips.

    Returns:
        Features (M, D) or (M, heads * D), float32, on the device of the classifier.
    """
    classifier.eval()
    device, features = next(classifier.parameters()).device, list[Tensor]()
    for count, (inputs, _) in enumerate(UnaugmentedLoader(chips, indices, batch_size), start=1):
        features.append(classifier.head_inputs(copy_to_device(inputs, device)).float())
        if progress is not None:
            progress(min(count * batch_size, len(indices)), len(indices), "frozen features")
    return torch.cat(features)
