"""PEFT in TorchGeo's classification task.

A checkpoint holds the learned tensors alone. Its key "rsft" names the encoder by a
hash, and describes the data module, so that `bundle_from_checkpoint` needs nothing else
where the data module is a chip store.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torchgeo.datamodules import BaseDataModule
from torchvision.models._api import WeightsEnum

from rsft.backbones.card import check_input_size
from rsft.backbones.loading import tensors_sha256
from rsft.data.chips.store import ChipStore
from rsft.data.imagery.input_transform import MAX_INPUT_SIDE
from rsft.data.loading.datamodule import ChipStoreDataModule
from rsft.errors import RequestError, WeightsError
from rsft.models.contract_fitting import common_spacing
from rsft.peft import AdaptedModel, FullTuning, attach
from rsft.recipe.components import ComponentSection
from rsft.recipe.load import fault_words, first_errors
from rsft.recipe.registries import LossFunction
from rsft.recipe.schema import LossSection, PeftSection
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

_TORCHGEO_LOSSES = ("ce", "bce", "jaccard", "focal", "dice")
CHECKPOINT_KEY = "rsft"
"""Key of a checkpoint for what the task adds to it."""


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
        img_size: side of the images in pixels, to which timm resamples the position
            embedding; None keeps that of the network.
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
        loss: str | JsonObject = "ce",
        peft: str | JsonObject = "lora",
        learn_scales: bool = False,
        class_counts: Sequence[int] | None = None,
        img_size: int | None = None,
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
        _set_input_size(network, self.hparams["img_size"])
        names = classifier_names(network)
        self.encoder_sha256 = tensors_sha256(encoder_state(network, names))
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

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the logits of images (B, C, S, S), whose side must be the network's.

        Raises:
            RequestError: it is another one.
        """
        embedding: Any = getattr(self.model.vit, "patch_embed", None)
        side = args[0].shape[-1]
        if getattr(embedding, "strict_img_size", False):
            needed = embedding.img_size[1]
            if side != needed:
                raise RequestError(
                    f"images of {side} pixels, but the network takes {needed}",
                    "img_size",
                    f"give the task img_size={side}, or the data module size={needed}",
                )
        return super().forward(*args, **kwargs)

    def predict_step(
        self, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> Tensor | dict[str, Any]:
        """Return the probabilities of a batch.

        Returns:
            (B, C); for batches with `bounds`, those of a GeoDataset, `probabilities`,
            `bounds` and `transform`, as TorchGeo's segmentation returns them.
        """
        probabilities: Tensor = super().predict_step(batch, batch_idx, dataloader_idx)
        if "bounds" not in batch:
            return probabilities
        places = {name: batch.get(name) for name in ("bounds", "transform")}
        return {"probabilities": probabilities, **places}

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
        self._loss = make_loss(
            self._loss_config, torch.tensor(self.hparams["class_counts"])
        )
        self.criterion = self._loss

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Let a deferred loss change with the share of the training that is done."""
        if self._loss:
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
            learned = self.learned_names()
            checkpoint["state_dict"] = {
                name: x
                for name, x in checkpoint["state_dict"].items()
                if name in learned or not name.startswith("model.")
            }
        self._data = _describe_data(datamodule) or self._data
        checkpoint[CHECKPOINT_KEY] = {
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
        record = checkpoint.get(CHECKPOINT_KEY)
        if record is None:
            return
        if self.hparams["weights"] and record["encoder_sha256"] != self.encoder_sha256:
            raise WeightsError(
                f"the weights of {self.hparams['model']} differ from those of the"
                " training",
                str(self.hparams["weights"]),
                "give the task the weights of the checkpoint",
            )
        missing = sorted(self.learned_names() - checkpoint["state_dict"].keys())
        if missing:
            raise WeightsError(
                f"{len(missing)} learned tensors are missing, such as {missing[0]}",
                "checkpoint",
                "give the task the arguments of the checkpoint",
            )
        checkpoint["state_dict"] = {**self.state_dict(), **checkpoint["state_dict"]}
        self._data = record["data"]


def _set_input_size(network: Any, side: int | None) -> None:
    """Let a network of timm take images of a side; a network without one takes any.

    Raises:
        RequestError: the network cannot take this side.
    """
    if side is None or not hasattr(network, "set_input_size"):
        return
    if side > MAX_INPUT_SIDE:  # as a hostile checkpoint may say
        raise RequestError(
            f"{side} pixels are too many", "img_size", f"give at most {MAX_INPUT_SIDE}"
        )
    check_input_size("the network", max(network.patch_embed.patch_size), side)
    network.set_input_size(img_size=side)


def _build_component(
    section: type[ComponentSection], key: str, value: str | Mapping[str, Any]
) -> Any:
    """Return the component that a name or a section of a recipe describes."""
    values = {section.selector: value} if isinstance(value, str) else dict(value)
    try:
        return section.model_validate(values).build()
    except ValidationError as error:
        name = values.get(
            section.selector, section.model_fields[section.selector].default
        )
        faults = []
        for leaf, item in first_errors(error, ()).items():
            words = fault_words(f"{key}.{leaf}", item, name)
            faults.append(f"{key}.{leaf} must be {words}")
        raise RequestError(
            "; ".join(faults),
            key,
            f"give a name, or the keys of the section {key} of a recipe",
        ) from error


def classifier_names(network: Any) -> list[str]:
    """Return the names of the classifiers of a network of timm.

    A distilled network has two.

    Args:
        network: built by timm, with its head.
    """
    heads = network.get_classifier()
    heads = heads if isinstance(heads, list | tuple) else [heads]
    return [
        name
        for name, module in network.named_modules()
        if any(module is head for head in heads)
    ]


def encoder_state(network: nn.Module, classifiers: Sequence[str]) -> dict[str, Tensor]:
    """Return the tensors of a network without those of its classifiers.

    Args:
        network: the network, before PEFT modules are attached.
        classifiers: see `classifier_names`.
    """
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
    if isinstance(datamodule, ChipStoreDataModule) and datamodule.contract:
        store = datamodule.store
        spacing = common_spacing(store.split("train")["spacing_m"].tolist())
        contract = datamodule.contract.model_copy(update={"spacing_m": spacing})
        return {
            "contract": contract.model_dump(mode="json"),
            "transforms": datamodule.transforms is not None,
        } | describe_chips(store)
    if isinstance(datamodule, BaseDataModule):
        moments = {
            name: torch.as_tensor(getattr(datamodule, name)).flatten().tolist()
            for name in ("mean", "std")
        }
        return {"module": type(datamodule).__name__, **moments}
    return {}


def describe_chips(store: ChipStore) -> JsonObject:
    """Return what a bundle needs of a chip store: classes, groups, bands and license.

    Args:
        store: the chip store of the training.
    """
    return {
        "root": str(store.root),
        "name": store.name,
        "bands": list(store.bands),
        "license": store.license,
        "classes": list(store.classes),
        "groups": {group: list(names) for group, names in store.groups.items()},
        "train_counts": [int(count) for count in store.class_counts("train")],
    }
