"""The bundle at which a run starts."""

import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rsft.backbones import Backbone
from rsft.data.chips.class_names import list_first_names
from rsft.data.chips.store import ChipStore
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.units import DIGITAL_UNITS
from rsft.data.loading.batches import ChipImages
from rsft.errors import DataError, Fault, RecipeError, RequestError
from rsft.models.bundle.bundle import Bundle, find_bundle
from rsft.models.classifier import Classifier
from rsft.models.loading import build_head
from rsft.recipe.schema import Recipe
from rsft.recipe.text import to_yaml
from rsft.training.init.frozen_features import compute_features
from rsft.training.init.head_init import init_head
from rsft.training.processes import is_rank_zero
from rsft.types import JsonObject, Names
from rsft.utils.atomic_files import atomic_folder

START_DIR = "start"
"""Subfolder of a run folder with a copy of the bundle at which the run started."""

_SHARED_KEYS = (
    "data.size",
    "data.crop",
    "data.bands",
    "data.remap",
    "data.unit",
    "data.declare",
    "data.stretch",
    "backbone.name",
    "backbone.blocks",
    "backbone.pool",
    "head.kind",
    "head.logit_scale",
    "head.earlier_blocks",
)
# they have no effect on the outputs of a trained bundle
_FREE_KEYS = ("peft.init", "peft.dropout")

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
    def open(cls, recipe: Recipe, run: Path | None = None) -> "StartBundle | None":
        """Open the bundle of `train.start_bundle`, and check the recipe against it.

        Args:
            recipe: the recipe of the run or the ensemble.
            run: folder of a run that is resumed; its copy of the bundle is read if it
                has one.

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
        source = path
        if run and (run / START_DIR).is_dir():
            source = run / START_DIR
        folder = find_bundle(source)
        bundle = Bundle.load(folder)
        members = recipe.train.ensemble_size
        if len(bundle.members) != members:
            count = len(bundle.members)
            raise RequestError(
                f"the bundle has {count} runs, but the recipe trains {members}",
                folder,
                f"set train.ensemble_size={count}, or start at one of the runs, as"
                " <run folder>/members/run-1",
            )
        require_same_settings(recipe, bundle)
        return cls(path, folder, bundle)

    def extend_classes(self, store: ChipStore) -> ChipStore:
        """Return a store with the classes of the bundle that it lacks after its own."""
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
        """Return the contract of the bundle, after a check of chips and backbone.

        Returns:
            The contract with the bands of the store's files.

        Raises:
            RequestError: backbone, planes or a unit differ.
        """
        expected = self.bundle.backbone_sha256
        if encoder.sha256 != expected:
            raise RequestError(
                f"the backbone's weights differ ({encoder.sha256[:12]}, bundle"
                f" {expected[:12]})",
                f"backbone.name {encoder.name}",
                "use the weights that the bundle was trained on",
            )
        contract = self.bundle.contract
        if encoder.bands != contract.planes:
            raise RequestError(
                f"the planes of the network's input are {', '.join(encoder.bands)}; the"
                f" bundle has {', '.join(contract.planes)}",
                store.root,
                "start a run without --from, or prepare the chips like those of the"
                " bundle",
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
        classes: Names,
        recipe: Recipe,
    ) -> None:
        """Copy the tensors into a classifier, and initialize its head for new classes.

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
        new = sorted(set(range(len(classes))) - set(target))
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
        """Copy the bundle into a run folder: a resumed run needs no original."""
        if is_rank_zero() and self.folder != run / START_DIR:
            with atomic_folder(run / START_DIR) as temporary:
                shutil.copytree(self.folder, temporary, dirs_exist_ok=True)

    def metadata(self, store: ChipStore, kept_blocks: int) -> JsonObject:
        """Return the entry "start" of run.json; log absent classes."""
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
    """Raise an error if a recipe describes another network or input than a bundle.

    Raises:
        RecipeError: all keys that differ, with both values.
    """
    values = _network_settings(recipe)
    expected = _network_settings(bundle.recipe)
    faults = []
    for key in expected | values:
        value = values.get(key)
        other = expected.get(key)
        if value != other:
            allowed = (
                f"the bundle has {to_yaml(other)}: set {key} to it, or train without"
                " --from"
            )
            faults.append(Fault(recipe.name, 0, key, to_yaml(value), allowed))
    if faults:
        raise RecipeError(faults)


def _network_settings(recipe: Recipe) -> JsonObject:
    """Return the value of every key that the outputs of a network depend on."""
    settings = {
        key: value
        for key, value in recipe.flatten().items()
        if key in _SHARED_KEYS or (key.startswith("peft.") and key not in _FREE_KEYS)
    }
    # whether scales are learned, not how
    return settings | {"meta": recipe.meta and "a section"}


def _initialize_rows(
    classifier: Classifier, train: ChipImages, new: list[int], recipe: Recipe
) -> None:
    """Initialize the rows of the new classes in the head of a classifier."""
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
        for name, parameter in classifier.head.named_parameters():
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
