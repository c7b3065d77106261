"""PEFT in TorchGeo's classification task, and a bundle from its checkpoint.

A checkpoint holds the learned tensors alone. Its key "rsft" names the encoder by a
hash, and describes the data module, so that `bundle_from_checkpoint` needs nothing else
where the data module is a chip store.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from pydantic import ValidationError
from timm.models import is_model
from torch import Tensor, nn
from torchgeo.datamodules import BaseDataModule
from torchvision.models._api import WeightsEnum

from rsft.backbones.checkpoint_files import read_torch_file
from rsft.backbones.loading import tensors_sha256
from rsft.data.chips.store import ChipStore
from rsft.data.imagery.contract import Contract
from rsft.data.loading.datamodule import ChipStoreDataModule, fit_store_contract
from rsft.errors import RequestError, WeightsError
from rsft.models.bundle.bundle import Bundle, source_license
from rsft.models.contract_fitting import common_spacing
from rsft.models.loading import build_classifier, load_encoder
from rsft.peft import AdaptedModel, FullTuning, attach
from rsft.peft.model.state_files import write_tensors
from rsft.recipe.components import ComponentSection
from rsft.recipe.registries import LOSSES, LossFunction
from rsft.recipe.schema import LossSection, PeftSection, Recipe
from rsft.training.optim.losses import loss_at
from rsft.training.optim.optimizers import make_loss
from rsft.types import JsonObject
from rsft.version import __version__

try:
    # since TorchGeo 0.9
    from torchgeo.tasks import (
        Classification as ClassificationTask,
    )
except ImportError:
    from torchgeo.trainers import ClassificationTask

__all__ = ["ChipStoreDataModule", "PEFTClassificationTask", "bundle_from_checkpoint"]

_TORCHGEO_LOSSES = ("ce", "bce", "jaccard", "focal", "dice")
_KEY = "rsft"  # of a checkpoint


class PEFTClassificationTask(ClassificationTask):  # type: ignore[misc]  # TorchGeo has no types
    """TorchGeo's classification task with a frozen network and PEFT modules.

    Args:
        model: timm's name of the network.
        weights: weights of the frozen network: a member of TorchGeo's enums or its
            name, True for timm's own, or a file as TorchGeo reads it. Random weights
            stay frozen as well, with a warning.
        in_channels: number of input channels.
        task: "multiclass", "binary" or "multilabel"; losses of rsft and bundles need
            the first.
        num_classes: number of classes.
        loss: loss of TorchGeo ("ce", "bce", "jaccard", "focal", "dice"), or a loss of
            rsft by name, such as "logit_adjustment", or with its settings, as the
            section `loss` of a recipe.
        peft: PEFT method by name, or with its settings, as the section `peft` of a
            recipe.
        learn_scales: learn one scale for every site, by the same loss and optimizer as
            the modules.
        class_counts: training chips of each class for a loss of rsft; None counts them
            in the data module.
        **kwargs: further arguments of TorchGeo's task, such as `lr` and `patience`.

    Attributes:
        model: the network with its PEFT modules, an `AdaptedModel`.
        encoder_sha256: hash of the frozen network without its head.

    Raises:
        RequestError: method, loss or weights do not fit.

    Example:
        >>> peft = {"method": "lora", "rank": 2, "positions": "qv"}
        >>> model = "vit_tiny_patch16_224"
        >>> with warnings.catch_warnings(action="ignore"):  # random weights
        ...     task = PEFTClassificationTask(model, num_classes=3, peft=peft)
        >>> sorted({name.split(".")[1] for name in task.learned_names()})
        ['additive', 'vit']
    """

    # the weights belong to the hyperparameters: a checkpoint holds the learned tensors
    # alone
    ignore = None
    model: AdaptedModel

    def __init__(
        self,
        model: str = "vit_small_patch16_224",
        weights: WeightsEnum | str | bool | None = None,
        in_channels: int = 3,
        task: Literal["binary", "multiclass", "multilabel"] = "multiclass",
        num_classes: int | None = None,
        *,
        loss: str | dict[str, Any] = "ce",
        peft: str | dict[str, Any] = "lora",
        learn_scales: bool = False,
        class_counts: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(weights, WeightsEnum | Path):
            weights = str(weights)
        if isinstance(kwargs.get("class_weights"), Tensor):
            kwargs["class_weights"] = kwargs["class_weights"].tolist()
        super().__init__(
            model=model,
            weights=weights,
            in_channels=in_channels,
            task=task,
            num_classes=num_classes,
            loss=loss,
            **kwargs,
        )
        self._data: JsonObject = {}

    def configure_models(self) -> None:
        """Build the network, freeze it and attach the PEFT method."""
        method = _build_component(PeftSection, "peft", self.hparams["peft"])
        try:
            with warnings.catch_warnings():
                # the first layer would stay random
                warnings.filterwarnings("error", message="input channels")
                super().configure_models()
        except UserWarning as error:
            raise RequestError(
                str(error).partition(". ")[0],
                "in_channels",
                "give as many channels as the weights have, in their order",
            ) from error
        network = cast(nn.Module, self.model)
        names = _classifier_names(network)
        self.encoder_sha256 = tensors_sha256(_encoder_state(network, names))
        if isinstance(method, FullTuning):  # it trains all but a module called head
            names = [name for name in names if name.split(".")[0] == "head"]
        self.model = attach(
            network, method, learn_scales=self.hparams["learn_scales"], train_also=names
        )
        if not self.hparams["weights"] and not isinstance(method, FullTuning):
            warnings.warn(
                f"random weights of {self.hparams['model']} stay frozen: give"
                " weights=...",
                stacklevel=2,
            )

    def configure_losses(self) -> None:
        """Build the loss; one of rsft without `class_counts` is built in `setup`."""
        loss = self.hparams["loss"]
        self._loss: LossFunction | None = None
        if isinstance(loss, str) and loss in _TORCHGEO_LOSSES:
            super().configure_losses()
            return
        if self.hparams["task"] != "multiclass":
            raise RequestError(
                f"the task is {self.hparams['task']}",
                "loss",
                "losses of rsft need task='multiclass'",
            )
        self._loss_config = _build_component(LossSection, "loss", loss)
        self.criterion: Any = None
        if self.hparams["class_counts"] is not None:
            self._set_criterion()

    def setup(self, stage: str) -> None:
        """Count the classes of the data module, if the loss needs the counts."""
        super().setup(stage)
        if self.criterion is None:
            self.hparams["class_counts"] = _count_classes(
                self.trainer, self.hparams["num_classes"]
            )
            self._set_criterion()

    def _set_criterion(self) -> None:
        counts = torch.tensor(self.hparams["class_counts"])
        self._loss = make_loss(self._loss_config, counts)
        self.criterion = self._loss

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Let a deferred loss change with the share of the training that is done."""
        if self._loss is not None:
            steps = max(1, self.trainer.estimated_stepping_batches)
            self.criterion = loss_at(self._loss, self.global_step / steps)

    def learned_names(self) -> set[str]:
        """Return the names of all trained tensors; a shared tensor has several."""
        parameters = self.named_parameters(remove_duplicate=False)
        return {name for name, parameter in parameters if parameter.requires_grad}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the learned tensors alone, unless the frozen ones are random.

        The checkpoint also describes the encoder and the data.
        """
        datamodule = getattr(self._trainer, "datamodule", None)
        if self.hparams["weights"]:
            state = checkpoint["state_dict"]
            learned = self.learned_names()
            state = {
                name: x
                for name, x in state.items()
                if name in learned or not name.startswith("model.")
            }
            checkpoint["state_dict"] = state
        self._data = _describe_data(datamodule) or self._data
        checkpoint[_KEY] = {
            "version": __version__,
            "encoder_sha256": self.encoder_sha256,
            "data": self._data,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the frozen tensors of this task to the learned ones of the checkpoint.

        Raises:
            WeightsError: the checkpoint lacks a learned tensor, or was trained on other
                frozen weights.
        """
        record = checkpoint.get(_KEY)
        if record is None:
            return
        if self.hparams["weights"] and record["encoder_sha256"] != self.encoder_sha256:
            message = (
                f"the weights of {self.hparams['model']} differ from those of the"
                " training"
            )
            raise WeightsError(
                message,
                str(self.hparams["weights"]),
                "give the task the weights of the checkpoint",
            )
        missing = sorted(self.learned_names() - checkpoint["state_dict"].keys())
        if missing:
            message = (
                f"{len(missing)} learned tensors are missing, such as {missing[0]}"
            )
            raise WeightsError(
                message, "checkpoint", "give the task the arguments of the checkpoint"
            )
        checkpoint["state_dict"] = {**self.state_dict(), **checkpoint["state_dict"]}
        self._data = record["data"]


def _build_component(
    section: type[ComponentSection], key: str, value: str | Mapping[str, Any]
) -> Any:
    """Return the component that a name or a section of a recipe describes."""
    try:
        return section.model_validate(
            {section.selector: value} if isinstance(value, str) else dict(value)
        ).build()
    except ValidationError as error:
        raise RequestError(
            "; ".join(
                dict.fromkeys(
                    [
                        f"{key}.{'.'.join(map(str, x['loc']))} must be {x['msg']}"
                        for x in error.errors(include_url=False)
                    ]
                )
            ),
            key,
            f"give a name, or the keys of the section {key} of a recipe",
        ) from error


def _classifier_names(network: Any) -> list[str]:
    """Return the names of the classifiers of a network of timm.

    A distilled network has two.
    """
    heads = network.get_classifier()
    heads = heads if isinstance(heads, list | tuple) else [heads]
    return [
        name
        for name, module in network.named_modules()
        if any(module is head for head in heads)
    ]


def _encoder_state(network: nn.Module, classifiers: Sequence[str]) -> dict[str, Tensor]:
    prefixes = tuple(f"{name}." for name in classifiers)
    return {
        name: tensor
        for name, tensor in network.state_dict().items()
        if not name.startswith(prefixes)
    }


def _count_classes(trainer: Any, num_classes: int) -> list[int]:
    datamodule = getattr(trainer, "datamodule", None)
    if isinstance(datamodule, ChipStoreDataModule):
        return [int(count) for count in datamodule.store.class_counts("train")]
    labels = getattr(getattr(datamodule, "train_dataset", None), "targets", None)
    if labels is None:
        raise RequestError(
            "the data module does not tell how often each class occurs",
            "class_counts",
            (
                "give the number of training chips of each class, in the order of the"
                " labels"
            ),
        )
    return torch.bincount(torch.as_tensor(labels), minlength=num_classes).tolist()


def _describe_data(datamodule: Any) -> JsonObject:
    """Return what a bundle needs of a data module; empty for an unknown one."""
    if isinstance(datamodule, ChipStoreDataModule) and datamodule.contract is not None:
        store = datamodule.store
        spacings = datamodule.store.split("train").get("spacing_m")
        if spacings is None:
            spacing = None
        else:
            spacing = common_spacing(spacings.astype(float).tolist())
        contract = datamodule.contract.model_copy(update={"spacing_m": spacing})
        chips = {
            "contract": contract.model_dump(mode="json"),
            "transforms": datamodule.transforms is not None,
        }
        return chips | _describe_store(store)
    if isinstance(datamodule, BaseDataModule):
        moments = {
            name: torch.as_tensor(getattr(datamodule, name)).flatten().tolist()
            for name in ("mean", "std")
        }
        return {"module": type(datamodule).__name__, **moments}
    return {}


def _describe_store(store: ChipStore) -> JsonObject:
    return {
        "root": str(store.root),
        "name": store.name,
        "bands": list(store.bands),
        "license": store.license,
        "classes": list(store.classes),
        "groups": {group: list(names) for group, names in store.groups.items()},
        "train_counts": [int(count) for count in store.class_counts("train")],
    }


def bundle_from_checkpoint(
    path: Path,
    out: Path,
    data: Path | None = None,
    size: int | None = None,
    weights: Path | None = None,
) -> list[str]:
    """Write a bundle of a checkpoint of `PEFTClassificationTask`.

    Args:
        path: the checkpoint.
        out: folder of the bundle, which is replaced if it exists.
        data: chip store of the training data; needed if the data module of the training
            was none.
        size: side of the network's input in pixels; needed with `data` for networks of
            any input size.
        weights: file of the frozen weights; needed if the task read them from a file.
            They are written beside the bundle, as <name of the
            bundle>-encoder.safetensors.

    Returns:
        What the reader should know, as sentences.

    Raises:
        RequestError: the checkpoint lacks what a bundle needs, and an argument must
            give it.
        WeightsError: the checkpoint is damaged or of another task, or its encoder is
            not the one on this machine.
    """
    if not path.is_file():
        raise RequestError(
            "no such checkpoint", path, "give the .ckpt file of a trainer"
        )
    checkpoint = read_torch_file(path)
    notes = list[str]()
    if (
        not isinstance(checkpoint, dict)
        or not {_KEY, "hyper_parameters", "state_dict"} <= checkpoint.keys()
    ):
        raise WeightsError(
            "this is no checkpoint of a PEFTClassificationTask",
            path,
            (
                "train rsft.torchgeo.PEFTClassificationTask, and give a checkpoint of"
                " its trainer"
            ),
        )
    try:
        _make_bundle(checkpoint, path, out, data, size, weights, notes).save(out)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise WeightsError(
            (
                f"the checkpoint is damaged, or of another version:"
                f" {type(error).__name__}: {error}"
            ),
            path,
            "use the versions of rsft, torchgeo and timm of the training",
        ) from error
    return notes


def _make_bundle(
    checkpoint: dict[str, Any],
    path: Path,
    out: Path,
    data: Path | None,
    size: int | None,
    weights: Path | None,
    notes: list[str],
) -> Bundle:
    record = checkpoint[_KEY]["data"]
    hparams = {
        key: value
        for key, value in checkpoint["hyper_parameters"].items()
        if not key.startswith("_")
    }
    if "contract" in record:
        chips = record
    else:
        chips = _describe_store(_open_store(record, data, path))
    # before memory is allocated for them
    _check_shape(hparams, chips, path)
    task = _rebuild_task(hparams, checkpoint, path)
    if "contract" in record:
        contract = Contract.model_validate(record["contract"])
        notes += [
            "the bundle does not contain the transforms of the data module"
        ] * bool(record["transforms"])
    else:
        contract = _fit_contract(record, Path(chips["root"]), task, size, path, notes)
    network = task.model.vit
    backbone = _describe_backbone(hparams, network, path, out, weights, notes)
    recipe = _make_recipe(path.stem, hparams, backbone, contract, chips["root"])
    encoder = load_encoder(recipe, contract.bands)
    if tensors_sha256(encoder.vit.state_dict()) != checkpoint[_KEY]["encoder_sha256"]:
        raise WeightsError(
            f"the weights of {recipe.backbone.name} differ from those of the training",
            path,
            "install the versions of torchgeo and timm of the training, or train again",
        )
    classifier = build_classifier(encoder, len(chips["classes"]), recipe)
    (head,) = _classifier_names(network)
    state = {
        re.sub(rf"^{re.escape(head)}\.", "head.", name): x
        for name, x in task.model.adapter_state().items()
    }
    classifier.load_learned_state(state)
    return Bundle(
        recipe=recipe,
        classes=tuple(chips["classes"]),
        groups={group: tuple(names) for group, names in chips["groups"].items()},
        train_counts=tuple(chips["train_counts"]),
        contract=contract,
        backbone_sha256=encoder.sha256,
        tensors=classifier.learned_state(),
        licenses=(
            source_license("backbone", recipe.backbone.name, encoder.license),
            source_license("data", chips["name"], chips["license"]),
        ),
    )


def _check_shape(
    hparams: Mapping[str, Any], chips: Mapping[str, Any], path: Path
) -> None:
    """Raise an error unless a task has the bands and classes of the chips."""
    channels = hparams["in_channels"]
    classes = hparams["num_classes"]
    bands = len(chips["bands"])
    names = len(chips["classes"])
    if (channels, classes) != (bands, names):
        raise RequestError(
            f"the task has {channels} channels and {classes} classes, and"
            f" {chips['name']} has {bands} and {names}",
            path,
            "give the chip store of the training data with --data",
        )


def _open_store(record: Mapping[str, Any], data: Path | None, path: Path) -> ChipStore:
    if "mean" not in record:
        message = (
            "the checkpoint was not trained with a data module, so it lacks the"
            " normalization"
        )
        raise RequestError(
            message,
            path,
            "train with a data module of TorchGeo, or with ChipStoreDataModule",
        )
    if data is None:
        message = (
            f"the checkpoint was trained on {record['module']}, so it lacks bands, unit"
            " and names of the classes"
        )
        raise RequestError(
            message, path, "give a chip store of the same data with --data"
        )
    return ChipStore.open(data)


def _rebuild_task(
    hparams: dict[str, Any], checkpoint: dict[str, Any], path: Path
) -> PEFTClassificationTask:
    """Return the task with the learned tensors of the checkpoint."""
    model = hparams["model"]
    # timm would ask a server for hf-hub:...
    if hparams["task"] != "multiclass" or not is_model(model):
        raise RequestError(
            f"the task is {hparams['task']} with {model}",
            path,
            "a bundle needs one class for each chip",
        )
    if not hparams["weights"]:
        raise RequestError(
            f"the frozen weights of {model} are random",
            path,
            "train a task with weights=..., because a bundle names its encoder",
        )
    with warnings.catch_warnings(action="ignore"):
        task = PEFTClassificationTask(**hparams | {"weights": None})
    task.on_load_checkpoint(checkpoint)
    task.load_state_dict(checkpoint["state_dict"])
    return task


def _fit_contract(
    record: Mapping[str, Any],
    root: Path,
    task: PEFTClassificationTask,
    size: int | None,
    path: Path,
    notes: list[str],
) -> Contract:
    """Return the contract of a chip store, normalized as a data module of TorchGeo."""
    side = size or next(
        iter(
            getattr(getattr(task.model.vit, "patch_embed", None), "img_size", None)
            or ()
        ),
        None,
    )
    if side is None:
        raise RequestError(
            f"{task.hparams['model']} takes images of any size", path, "give --size"
        )
    store = ChipStore.open(root)
    contract = fit_store_contract(
        store, side, stretch="auto" if store.units == ("uint8",) else "percentile"
    )
    count = len(contract.planes)
    unit, stretches = next(iter(contract.units.items()))
    repeats = {1: count}  # one value for all bands
    mean = record["mean"] * repeats.get(len(record["mean"]), 1)
    std = record["std"] * repeats.get(len(record["std"]), 1)
    if len(contract.units) != 1 or len(mean) != count or len(std) != count:
        raise RequestError(
            (
                f"{record['module']} normalizes {len(mean)} bands, and the chips have"
                f" {count} in {unit}"
            ),
            root,
            "prepare the bands of the training, in one unit",
        )
    ranges = [
        (x, stretch.low, cast(float, stretch.high) - stretch.low)
        for x, stretch in zip(mean, stretches, strict=True)
    ]
    moments = {
        "mean": tuple((x - low) / width for x, low, width in ranges),
        "std": tuple(x / width for x, (_, _, width) in zip(std, ranges, strict=True)),
    }
    notes += filter(None, [contract.clipping_note])
    notes.append(
        f"chips are resized to {side} pixels, and normalized as by {record['module']}"
        f" in {unit}"
    )
    return contract.model_copy(update=moments)


def _describe_backbone(
    hparams: Mapping[str, Any],
    network: Any,
    path: Path,
    out: Path,
    weights: Path | None,
    notes: list[str],
) -> JsonObject:
    """Return the section `backbone`; write weights of a file beside the bundle."""
    model = hparams["model"]
    name = hparams["weights"]
    pool = getattr(network, "global_pool", "avg")
    # a module of a hierarchical network
    pool = pool if isinstance(pool, str) else "avg"
    if pool not in ("token", "avg") or not isinstance(
        network.get_classifier(), nn.Linear
    ):
        message = (
            f"{model} has the pooling {pool} and no single linear head, which a bundle"
            " cannot express"
        )
        raise RequestError(message, path, "choose another network")
    if name is True or "_Weights" in name:
        return {"name": model if name is True else name, "pool": pool}
    if weights is None:
        raise RequestError(
            f"the task read its weights from {name}",
            path,
            "give this file with --weights",
        )
    stored = read_torch_file(weights) if weights.is_file() else {}
    stored = {
        key.replace("model.", ""): tensor
        for key, tensor in stored.get("state_dict", {}).items()
    }
    names = _encoder_state(network, _classifier_names(network)).keys()
    missing = names - stored.keys()
    if missing:
        message = f"{len(missing)} of the {len(names)} tensors of {model} are missing"
        raise WeightsError(
            message, weights, f"give the file that the task read: {name}"
        )
    file = out.absolute().with_name(f"{out.name}-encoder.safetensors")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(file, {key: stored[key] for key in names}, {"format": "pt"})
    notes.append(f"the bundle needs the encoder in {file}")
    return {"name": f"timm:{model}", "weights": str(file), "pool": pool}


def _make_recipe(
    name: str,
    hparams: Mapping[str, Any],
    backbone: Mapping[str, Any],
    contract: Contract,
    root: str,
) -> Recipe:
    """Return the recipe that describes the classifier of a task."""
    loss = hparams["loss"]
    peft = hparams["peft"]
    planes = list(contract.planes)
    if isinstance(loss, str):
        section = {"name": loss if loss in LOSSES else "ce"}
    else:
        section = loss
    return Recipe.model_validate(
        {
            "name": name.lstrip(".") or "torchgeo",
            "data": {
                "root": root,
                "size": contract.size,
                "crop": contract.crop,
                "bands": planes,
                "remap": "expand",
            },
            "backbone": backbone,
            "peft": {"method": peft} if isinstance(peft, str) else peft,
            "meta": {"schedule": "joint"} if hparams["learn_scales"] else None,
            "head": {"kind": "linear", "init": "random"},
            "loss": section,
            "train": {"epochs": 1, "optimizer": "adamw", "lr": hparams["lr"]},
        }
    )
