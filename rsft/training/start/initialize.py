"""Load a start bundle into a new classifier, keep its first blocks, and initialize rows for new classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from rsft.data.loading.batches import ChipImages, UnaugmentedLoader
from rsft.errors import RequestError
from rsft.models.classifier import Classifier
from rsft.models.device import copy_to_device
from rsft.models.factory import build_head
from rsft.peft.modules.target_layers import transformer_blocks
from rsft.recipe.schema import HeadSection, Recipe, TrainSection
from rsft.training.init.head_init import init_head
from rsft.training.start.start_bundle import StartBundle
from rsft.types import Indices


def keep_first_blocks(classifier: Classifier, train: TrainSection) -> None:
    """Keep the modules and scales of all blocks but the last `train.last_blocks` as they are.

    Args:
        classifier: the classifier before training.
        train: the section `train` of the recipe.

    Raises:
        RequestError: the network has fewer blocks.
    """
    if train.last_blocks is None:
        return
    depth = len(transformer_blocks(classifier.adapted.vit))
    if train.last_blocks > depth:
        message = f"the network has {depth} blocks, fewer than {train.last_blocks}"
        raise RequestError(message, "train.last_blocks", f"set train.last_blocks to {depth} or less")
    classifier.adapted.keep_before(depth - train.last_blocks if train.last_blocks else depth + 1)


def start_at_bundle(
    start: StartBundle, classifier: Classifier, train: ChipImages, classes: tuple[str, ...], recipe: Recipe
) -> None:
    """Load the tensors of a bundle into a new classifier, and initialize the rows of its head for new classes.

    Args:
        start: the bundle.
        classifier: the classifier, on its device.
        train: the training chips.
        classes: names of all classes, in the order of the logits.
        recipe: the recipe of the run.

    Raises:
        RequestError: a new class has no training chip.
        WeightsError: a tensor does not fit.
    """
    start.load_tensors(classifier, classes)
    new, batch_size = start.new_classes(classes), recipe.evaluate.batch_size
    initialize_new_rows(classifier, train, classes, new, recipe.head, batch_size, recipe.seed)


def initialize_new_rows(
    classifier: Classifier,
    chips: ChipImages,
    names: Sequence[str],
    new: Sequence[int],
    section: HeadSection,
    batch_size: int,
    seed: int,
) -> None:
    """Initialize the rows of new classes by `head.init`, from features of the network that the bundle trained.

    The rows are scaled to the mean norm of the other rows, and a bias is the mean of the other biases. With
    `head.init=random`, the rows stay random.

    Args:
        classifier: the classifier with the tensors of the bundle.
        chips: the training chips.
        names: names of all classes, in the order of the logits.
        new: indices of the new classes.
        section: the section `head` of the recipe.
        batch_size: chips in a forward pass.
        seed: the seed of the recipe.

    Raises:
        RequestError: a new class has no training chip.
    """
    if not new or section.init == "random":
        return
    if absent := [names[label] for label in new if label not in chips.labels]:
        message = f"new classes without a training chip: {', '.join(absent)}"
        raise RequestError(message, chips.root, "add training chips of them, or use head.init=random")
    needs_all = section.init == "linear-probe"
    indices = np.flatnonzero(needs_all | np.isin(chips.labels, new))
    present, labels = np.unique(chips.labels[indices], return_inverse=True)
    features = _compute_features(classifier, chips, indices, batch_size)
    width = features.shape[1] // (1 + len(section.earlier_blocks))
    fresh = build_head(width, len(present), section).to(features.device)
    init_head(fresh, section, features, torch.from_numpy(labels).to(features.device), seed)
    _copy_rows(classifier.head, fresh, [int(np.searchsorted(present, label)) for label in new], list(new))


@torch.inference_mode()
def _compute_features(classifier: Classifier, chips: ChipImages, indices: Indices, batch_size: int) -> Tensor:
    classifier.eval()
    device = next(classifier.parameters()).device
    batches = UnaugmentedLoader(chips, indices, batch_size)
    return torch.cat([classifier.head_inputs(copy_to_device(inputs, device)).float() for inputs, _ in batches])


@torch.no_grad()
def _copy_rows(head: nn.Module, fresh: nn.Module, source: list[int], target: list[int]) -> None:
    state = fresh.state_dict()
    for name, parameter in head.named_parameters():
        old = [row for row in range(len(parameter)) if row not in target]
        rows = state[name][source]
        if parameter.ndim == 1:
            rows = parameter[old].mean().expand(len(target))
        elif old:
            rows = rows * (parameter[old].norm(dim=1).mean() / rows.norm(dim=1, keepdim=True).clamp(min=1e-12))
        parameter[target] = rows
