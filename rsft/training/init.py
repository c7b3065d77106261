"""The tensors with which a run starts: an initialized head, cached outputs of frozen blocks, or those of a bundle.

Features before training, and without augmentation the tokens that enter the first
adapted block, never change. Both are cached next to the cache of the chips. Also the
training chips that `rsft data add` brought into a finished store.
"""

import hashlib
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.backbones import Backbone
from rsft.data.chips.store import ChipStore, list_first_names
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.units import DIGITAL_UNITS
from rsft.data.loading.batches import ChipImages, UnaugmentedLoader
from rsft.errors import DataError, Fault, RecipeError, RequestError
from rsft.models.bundle.bundle import Bundle, find_bundle
from rsft.models.classifier import (
    Classifier,
    HeadAverage,
    build_head,
    copy_to_device,
    join_rows,
)
from rsft.peft import AdaptedModel
from rsft.recipe.schema import HeadSection, Recipe
from rsft.recipe.text import to_yaml
from rsft.training.processes import is_rank_zero
from rsft.types import Indices, Progress
from rsft.utils.atomic_files import atomic_file, atomic_folder
from rsft.utils.progress import announce

_ROWS = 4096  # chips whose normalized features are in memory


def init_head(
    head: nn.Module, section: HeadSection, features: Tensor, labels: Tensor, seed: int
) -> None:
    """Initialize the weights of a head by the method `head.init`; "random" changes nothing.

    With "class-mean" and "k-shot", biases are set to 0.

    Args:
        head: linear or cosine head of C classes, or a `HeadAverage` of such heads.
        section: the section `head` of the recipe.
        features: features of the training chips (N, D); for a `HeadAverage` those of
            its heads side by side.
        labels: class indices of these chips (N,).
        seed: the seed of the recipe.

    Raises:
        RequestError: a class has no training chip.
    """
    if section.init == "random":
        return
    if isinstance(head, HeadAverage):
        for member, part in zip(
            head.heads, features.chunk(len(head.heads), dim=1), strict=True
        ):
            init_head(member, section, part, labels, seed)
        return
    weight = head.weight
    bias = getattr(head, "bias", None)
    assert isinstance(weight, Tensor)
    n_classes = len(weight)
    counts = torch.bincount(labels, minlength=n_classes)
    if not counts.all():
        empty = (counts == 0).nonzero().flatten().tolist()
        raise RequestError(
            f"classes {empty} have no training chip",
            "head.init",
            "use head.init=random",
        )
    if section.init == "linear-probe":
        new_weight, new_bias = fit_linear_probe(
            features, labels, seed, cosine=section.kind == "cosine"
        )
    else:
        if section.init == "k-shot":
            chosen = sample_shots(labels, section.shots, seed)
            features = features[chosen]
            labels = labels[chosen]
        # the mean of the L2-normalized features of each class, normalized again
        sums = features.new_zeros(n_classes, features.shape[1])
        for first in range(0, len(labels), _ROWS):
            rows = slice(first, first + _ROWS)
            sums.index_add_(0, labels[rows], F.normalize(features[rows], dim=1))
        new_weight = F.normalize(sums, dim=1)
        new_bias = torch.zeros(n_classes)
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
    rng = np.random.default_rng((seed, 3))
    numbers = labels.cpu().numpy()
    chosen = [
        rng.permutation(np.flatnonzero(numbers == label))[:shots]
        for label in np.unique(numbers)
    ]
    return torch.from_numpy(np.sort(np.concatenate(chosen))).to(labels.device)


def fit_linear_probe(
    features: Tensor, labels: Tensor, seed: int, *, cosine: bool
) -> tuple[Tensor, Tensor]:
    """Fit scikit-learn's multinomial logistic regression with balanced class weights.

    For a cosine head, features are L2-normalized and biases are 0. For a linear head,
    features are divided by their mean norm, and the returned weights are rescaled to
    the original features. For two classes scikit-learn fits one weight vector, which is
    split into halves of opposite sign; this does not change the probabilities.

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
        C=100.0,
        max_iter=1000,
        class_weight="balanced",
        fit_intercept=not cosine,
        random_state=seed,
    )
    probe.fit(inputs.cpu().numpy(), labels.cpu().numpy())
    weight = torch.from_numpy(np.atleast_2d(probe.coef_)) / (
        1 if cosine else norms.mean().cpu()
    )
    intercept = torch.from_numpy(np.broadcast_to(probe.intercept_, len(weight)).copy())
    if len(weight) == 1:
        weight = torch.cat([-weight, weight]) / 2
        intercept = torch.cat([-intercept, intercept]) / 2
    return weight, intercept


class CachedPrefixTokens:
    """Source of batches of cached tokens (B, T, D), float32, in place of images.

    The tokens are computed once, into a memory-mapped file next to the cache of the
    chips. The name of the file depends on the images, the backbone and the number of
    blocks.

    Args:
        chips: the chips to compute tokens of.
        key: identifies frozen weights and precision.
        batch_size: chips in a forward pass.

    Attributes:
        tokens: the tokens of every chip (N, T, D), memory-mapped.
    """

    def __init__(
        self,
        chips: ChipImages,
        adapted: AdaptedModel,
        key: str,
        batch_size: int,
        progress: Progress | None = None,
    ) -> None:
        self.labels = chips.labels
        self.contract = chips.contract
        self.names = chips.names
        path = feature_cache_path(chips, key, adapted.prefix_end, *_kept_state(adapted))
        device = next(adapted.vit.parameters()).device
        done = 0
        with FileLock(path.parent / "lock"):
            if not path.is_file():
                announce(progress, "frozen blocks")
                with atomic_file(path) as temporary:
                    output: np.memmap[Any, np.dtype[np.float32]] | None = None
                    for inputs, _ in chips.batches(batch_size):
                        tokens = (
                            adapted.run_frozen_prefix(copy_to_device(inputs, device))
                            .float()
                            .cpu()
                            .numpy()
                        )
                        if output is None:
                            shape = len(chips), *tokens.shape[1:]
                            output = np.lib.format.open_memmap(
                                temporary, "w+", np.float32, shape
                            )
                        output[done : done + len(tokens)] = tokens
                        done += len(tokens)
                        if progress is not None:
                            progress(done, len(chips), "frozen blocks")
                    assert output is not None
                    output.flush()
                    # Windows does not rename a file that is mapped into memory
                    output = None
        self.tokens: NDArray[np.float32] = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return tokens (B, T, D) and labels (B,) of the chips with these indices (B,)."""
        return torch.from_numpy(self.tokens[indices]), torch.from_numpy(
            self.labels[indices]
        )


def can_cache_prefix(chips: ChipImages, adapted: AdaptedModel) -> bool:
    """Return whether the frozen prefix yields tokens after a block, and the disk has room for twice the tokens."""
    if adapted.prefix_end <= 0:
        return False
    device = next(adapted.vit.parameters()).device
    prefix = adapted.run_frozen_prefix(
        copy_to_device(chips.batch(np.arange(1))[0], device)
    )
    if prefix.ndim == 4:  # the images: the network cannot be run from tokens
        return False
    return (
        len(chips) * prefix.numel() * 4 * 2
        < shutil.disk_usage(feature_cache_path(chips).parent).free
    )


def feature_cache_path(chips: ChipImages, *key: object) -> Path:
    """Return the path of a cache file next to the cache of the chips, named after images, normalization and a key."""
    images = chips.cache_file
    contract = chips.contract  # the cache of the chips holds bytes before normalization
    moments = (
        "chip-standard" if contract.chip_standard else (contract.mean, contract.std)
    )
    digest = hashlib.sha256(repr((*key, moments)).encode()).hexdigest()[:16]
    return images.with_name(f"{images.stem}-{digest}.npy")


def _kept_state(adapted: AdaptedModel) -> list[str]:
    """Return the hash of the learned tensors and scales within the prefix, which a start bundle brings; else nothing.

    Without such tensors, the names of cache files are those of earlier versions.
    """
    state = {
        name: value
        for name, value in adapted.adapter_state().items()
        if name != "gamma"
    }
    kept = {
        name: value
        for name, value in state.items()
        if adapted.stage_of(name) < adapted.prefix_end
    }
    if adapted.modulator is None:
        factors = {}
    else:
        factors = adapted.modulator.factors()
    kept |= {
        str(site): values
        for site, values in factors.items()
        if site.block < adapted.prefix_end
    }
    if not kept:
        return []
    digest = hashlib.sha256()
    for name in sorted(kept):
        digest.update(
            name.encode() + kept[name].detach().cpu().contiguous().numpy().tobytes()
        )
    return [digest.hexdigest()]


def compute_initial_features(
    classifier: Classifier,
    chips: ChipImages,
    weights: str,
    batch_size: int,
    progress: Progress | None = None,
) -> Tensor:
    """Return the inputs of the head for all chips before training, without augmentation.

    They are cached next to the cache of the chips. The key is made of images and frozen
    weights only, because most methods do not change the outputs at first. For methods
    that do (VPT), features are not cached.

    Args:
        classifier: the classifier before training.
        chips: the chips to compute features of.
        weights: hash of the frozen backbone.
        batch_size: chips in a forward pass.
        progress: called after each batch of chips.

    Returns:
        Features, as `compute_features` returns them.
    """
    everything = np.arange(len(chips))
    if not classifier.adapted.method.is_identity_at_init:
        return compute_features(classifier, chips, everything, batch_size, progress)
    blocks = classifier.adapted.output_blocks
    path = feature_cache_path(
        chips, "features", weights, classifier.pool, *([blocks] if blocks else [])
    )
    with FileLock(path.parent / "lock"):
        if path.is_file():
            return torch.from_numpy(np.load(path)).to(
                next(classifier.parameters()).device
            )
        features = compute_features(classifier, chips, everything, batch_size, progress)
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            np.save(file, features.cpu().numpy())
        return features


@torch.no_grad()
def compute_features(
    classifier: Classifier,
    chips: ChipImages,
    indices: Indices,
    batch_size: int,
    progress: Progress | None = None,
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
    device = next(classifier.parameters()).device
    (features,) = join_rows(
        lambda inputs: [classifier.head_inputs(copy_to_device(inputs, device)).float()],
        UnaugmentedLoader(chips, indices, batch_size),
        progress and (lambda done: progress(done, len(indices), "frozen features")),
    )
    return features


START_DIR = "start"
"""Subfolder of a run folder with a copy of the bundle at which the run started."""

_SHARED_KEYS = {
    "data": ("size", "crop", "bands", "remap", "unit", "declare", "stretch"),
    "backbone": ("name", "blocks", "pool"),
    "head": ("kind", "logit_scale", "earlier_blocks"),
}
_FREE_PEFT_KEYS = (
    "init",
    "dropout",
)  # they have no effect on the outputs of a trained bundle

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StartBundle:
    """The bundle at which a run starts.

    Attributes:
        path: the bundle that the recipe names.
        folder: the bundle that is read: the same, or its copy in the run folder.
        member: index of the run whose tensors are used, in a bundle of several runs.
    """

    path: Path
    folder: Path
    bundle: Bundle
    member: int = 0

    @classmethod
    def open(
        cls, recipe: Recipe, member: int = 0, members: int = 1, run: Path | None = None
    ) -> "StartBundle | None":
        """Open the bundle of `train.start_bundle`, and check the recipe against it.

        Args:
            recipe: the recipe of the run.
            member: index of the run in an ensemble.
            members: number of runs in the ensemble; 1 for a single run.
            run: folder of a run that is resumed, or of the ensemble; its copy of the
                bundle is read if it has one.

        Returns:
            The bundle; None if the recipe names none.

        Raises:
            RequestError: the folder contains no bundle, or the bundle averages another
                number of runs.
            RecipeError: keys of the recipe do not agree with the bundle.
            WeightsError: the bundle is damaged.
        """
        if recipe.train.start_bundle is None:
            return None
        path = Path(recipe.train.start_bundle)
        has_copy = run is not None and (run / START_DIR).is_dir()
        folder = find_bundle(run / START_DIR if run is not None and has_copy else path)
        bundle = Bundle.load(folder)
        if len(bundle.members) != members:
            hint = (
                f"set train.ensemble_size={len(bundle.members)}, which trains each of"
                " them"
            )
            if len(bundle.members) > 1 and members == 1:
                hint += ", or start at one of them: <run folder>/members/run-1"
            raise RequestError(
                (
                    f"the bundle has {len(bundle.members)} runs, but the recipe trains"
                    f" {members}"
                ),
                folder,
                hint,
            )
        require_same_settings(recipe, bundle)
        return cls(path, folder, bundle, member)

    def extend_classes(self, store: ChipStore) -> ChipStore:
        """Return a store that also has the classes of the bundle that it lacks, after its own."""
        missing = [name for name in self.bundle.classes if name not in store.classes]
        if not missing:
            return store
        groups = {group: list(names) for group, names in store.groups.items()}
        for group, names in self.bundle.groups.items():
            groups.setdefault(group, []).extend(
                name for name in names if name in missing
            )
        return replace(store, classes=(*store.classes, *missing), groups=groups)

    def adopt_contract(self, store: ChipStore, encoder: Backbone) -> Contract:
        """Return the contract of the bundle, after a check of the chips and the backbone of the run.

        Returns:
            The contract with the bands of the store's files.

        Raises:
            RequestError: backbone, planes or a unit differ.
        """
        bundle = self.bundle
        hint = (
            "start a run without --from, or prepare the chips like those of the bundle"
        )
        if encoder.sha256 != bundle.backbone_sha256:
            raise RequestError(
                (
                    f"the backbone's weights differ ({encoder.sha256[:12]}, bundle"
                    f" {bundle.backbone_sha256[:12]})"
                ),
                f"backbone.name {encoder.name}",
                "use the weights that the bundle was trained on",
            )
        contract = bundle.contract
        if encoder.bands != contract.planes:
            planes = (
                f"{', '.join(encoder.bands)}; the bundle has"
                f" {', '.join(contract.planes)}"
            )
            raise RequestError(
                f"the planes of the network's input are {planes}", store.root, hint
            )
        contract = contract.model_copy(update={"bands": store.bands})
        for unit in store.units:
            try:
                contract.check_header(
                    unit if unit in DIGITAL_UNITS else "float32", len(store.bands), unit
                )
            except DataError as error:
                raise RequestError(
                    error.message, f"{store.root}, unit {unit}", error.hint
                ) from error
        return contract

    def load_into(
        self,
        classifier: Classifier,
        train: ChipImages,
        classes: tuple[str, ...],
        recipe: Recipe,
    ) -> None:
        """Copy the tensors of the bundle into a classifier, and initialize the rows of its head for new classes.

        A row of the head goes to the class of the same name. Rows of new classes are
        initialized by `head.init`, from features of the network that the bundle
        trained: they are scaled to the mean norm of the other rows, and a bias is the
        mean of the other biases. With `head.init=random`, they stay random.

        Args:
            classifier: a new classifier, on its device.
            train: the training chips.
            classes: names of all classes, in the order of the logits.
            recipe: the recipe of the run.

        Raises:
            RequestError: a new class has no training chip.
            WeightsError: a tensor does not fit.
        """
        state = dict(self.bundle.members[self.member])
        current = classifier.learned_state()
        shared = [name for name in classes if name in self.bundle.classes]
        source = [self.bundle.classes.index(name) for name in shared]
        target = [classes.index(name) for name in shared]
        for key in [key for key in state if key.startswith("head.")]:
            rows: Tensor = current[key].clone()
            rows[target] = state[key][source].to(rows)
            state[key] = rows
        classifier.load_learned_state(state)
        new = [
            label
            for label, name in enumerate(classes)
            if name not in self.bundle.classes
        ]
        if new and recipe.head.init != "random":
            absent = [classes[label] for label in new if label not in train.labels]
            if absent:
                raise RequestError(
                    f"new classes without a training chip: {', '.join(absent)}",
                    train.root,
                    "add training chips of them, or use head.init=random",
                )
            _initialize_rows(classifier, train, new, recipe)

    def copy_into(self, run: Path) -> None:
        """Copy the bundle into a run folder, so that the run can be resumed and compared without the original."""
        if is_rank_zero() and self.folder != run / START_DIR:
            with atomic_folder(run / START_DIR) as temporary:
                shutil.copytree(self.folder, temporary, dirs_exist_ok=True)

    def metadata(self, store: ChipStore, kept_blocks: int) -> dict[str, Any]:
        """Return the entry "start" of run.json, given the number of first blocks that stay; log absent classes."""
        counts = store.counts["train"]
        absent = [name for name in self.bundle.classes if not counts[name]]
        if is_rank_zero() and absent:
            _log.warning(
                "no training chip of %s: these classes of the bundle stay, but no chip"
                " protects what it knows of them",
                list_first_names(absent),
            )
        return {
            "bundle": str(self.path),
            "sha256": self.bundle.sha256,
            "new_classes": [
                name for name in store.classes if name not in self.bundle.classes
            ],
            "classes_without_chips": absent,
            "kept_blocks": kept_blocks,
        }


def require_same_settings(recipe: Recipe, bundle: Bundle) -> None:
    """Raise an error if a recipe describes another network, or another input of it, than a bundle.

    Raises:
        RecipeError: all keys that differ, with both values.
    """
    values = _network_settings(recipe)
    expected = _network_settings(bundle.recipe)
    faults = []
    for key in dict.fromkeys([*expected, *values]):
        value = values.get(key)
        other = expected.get(key)
        if value != other:
            allowed = (
                f"the bundle has {to_yaml(other)}: set {key}={to_yaml(other)}, or train"
                " without --from"
            )
            faults.append(Fault(recipe.name, 0, key, to_yaml(value), allowed))
    has_scales = bundle.recipe.meta is not None
    if (recipe.meta is not None) != has_scales:
        if has_scales:
            allowed = "learned scales: add a section meta"
        else:
            allowed = "constant scales: set meta=null"
        value = "null" if has_scales else "a section"
        faults.append(
            Fault(
                recipe.name,
                0,
                "meta",
                value,
                f"the bundle has {allowed}, or train without --from",
            )
        )
    if faults:
        raise RecipeError(faults)


def _network_settings(recipe: Recipe) -> dict[str, Any]:
    """Return the value of every key on which the outputs of a trained network depend."""
    settings = {
        f"{name}.{x}": getattr(getattr(recipe, name), x)
        for name, keys in _SHARED_KEYS.items()
        for x in keys
    }
    peft: Mapping[str, Any] = {"method": recipe.peft.method, **recipe.peft.settings}
    return settings | {
        f"peft.{key}": value
        for key, value in peft.items()
        if key not in _FREE_PEFT_KEYS
    }


def _initialize_rows(
    classifier: Classifier, train: ChipImages, new: list[int], recipe: Recipe
) -> None:
    """Initialize the rows of the new classes in the head of a classifier."""
    head = classifier.head
    section = recipe.head
    indices = np.flatnonzero(
        (section.init == "linear-probe") | np.isin(train.labels, new)
    )
    present, labels = np.unique(train.labels[indices], return_inverse=True)
    features = compute_features(classifier, train, indices, recipe.evaluate.batch_size)
    width = features.shape[1] // (1 + len(section.earlier_blocks))
    fresh = build_head(width, len(present), section).to(features.device)
    init_head(
        fresh,
        section,
        features,
        torch.from_numpy(labels).to(features.device),
        recipe.seed,
    )
    state = fresh.state_dict()
    source = np.searchsorted(present, new).tolist()
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            old = [row for row in range(len(parameter)) if row not in new]
            rows = state[name][source]
            if parameter.ndim == 1:
                rows = parameter[old].mean().expand(len(new))
            elif old:
                rows = rows * (
                    parameter[old].norm(dim=1).mean()
                    / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
                )
            parameter[new] = rows
