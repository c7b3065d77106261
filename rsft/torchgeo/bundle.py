"""A bundle from a checkpoint of `PEFTClassificationTask`."""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from timm.models import is_model
from torch import nn

from rsft.backbones.checkpoint_files import read_torch_file
from rsft.backbones.loading import tensors_sha256
from rsft.data.chips.store import ChipStore
from rsft.data.imagery.contract import Contract
from rsft.data.loading.datamodule import fit_store_contract
from rsft.errors import RequestError, WeightsError
from rsft.models.bundle.bundle import Bundle, source_license
from rsft.models.loading import build_classifier, load_encoder
from rsft.peft.methods.registry import packages_of
from rsft.peft.model.state_files import write_tensors
from rsft.recipe.registries import LOSSES
from rsft.recipe.schema import Recipe
from rsft.torchgeo.task import (
    CHECKPOINT_KEY,
    PEFTClassificationTask,
    classifier_names,
    describe_chips,
    encoder_state,
)
from rsft.types import JsonObject


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
    if (
        not isinstance(checkpoint, dict)
        or not {CHECKPOINT_KEY, "hyper_parameters", "state_dict"} <= checkpoint.keys()
    ):
        raise WeightsError(
            "this is no checkpoint of a PEFTClassificationTask",
            path,
            "train rsft.torchgeo.PEFTClassificationTask, and give a checkpoint of its"
            " trainer",
        )
    notes: list[str] = []
    try:
        _make_bundle(checkpoint, path, out, data, size, weights, notes).save(out)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        fault = f"{type(error).__name__}: {error}"
        raise WeightsError(
            f"the checkpoint is damaged, or of another version: {fault}",
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
    metadata = checkpoint[CHECKPOINT_KEY]
    record = metadata["data"]
    hparams = checkpoint["hyper_parameters"]
    hparams = {key: x for key, x in hparams.items() if not key.startswith("_")}
    store = None if "contract" in record else _open_store(record, data, path)
    chips = describe_chips(store) if store else record
    # before memory is allocated for them
    _check_shape(hparams, chips, path)
    task = _rebuild_task(hparams, checkpoint, path)
    network = task.model.vit
    if store:
        contract = _fit_contract(record, store, network, size, notes)
    else:
        contract = Contract.model_validate(record["contract"])
        if record["transforms"]:
            notes.append("the bundle does not contain the data module's transforms")
    backbone = _describe_backbone(hparams, network, path, out, weights, notes)
    recipe = _make_recipe(path.stem, hparams, backbone, contract, chips["root"])
    encoder = load_encoder(recipe, contract.bands)
    if tensors_sha256(encoder.vit.state_dict()) != metadata["encoder_sha256"]:
        raise WeightsError(
            f"the weights of {recipe.backbone.name} differ from those of the training",
            path,
            "install the versions of torchgeo and timm of the training, or train again",
        )
    classifier = build_classifier(encoder, len(chips["classes"]), recipe)
    (head,) = classifier_names(network)
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
        packages=packages_of(recipe.peft.build()),
    )


def _check_shape(hparams: JsonObject, chips: JsonObject, path: Path) -> None:
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


def _open_store(record: JsonObject, data: Path | None, path: Path) -> ChipStore:
    if "mean" not in record:
        raise RequestError(
            "the checkpoint was not trained with a data module, so it lacks the"
            " normalization",
            path,
            "train with a data module of TorchGeo, or with ChipStoreDataModule",
        )
    if not data:
        raise RequestError(
            f"the checkpoint was trained on {record['module']}, so it lacks bands, unit"
            " and names of the classes",
            path,
            "give a chip store of the same data with --data",
        )
    return ChipStore.open(data)


def _rebuild_task(
    hparams: JsonObject, checkpoint: dict[str, Any], path: Path
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
    record: JsonObject,
    store: ChipStore,
    network: Any,
    size: int | None,
    notes: list[str],
) -> Contract:
    """Return the contract of a chip store, normalized as a data module of TorchGeo."""
    embedding = getattr(network, "patch_embed", None)
    side = size or max(getattr(embedding, "img_size", None) or [0])
    if not side:
        raise RequestError("the network takes images of any size", hint="give --size")
    stretch = "auto" if store.units == ("uint8",) else "percentile"
    contract = fit_store_contract(store, side, stretch=stretch)
    count = len(contract.planes)
    unit, stretches = next(iter(contract.units.items()))
    mean, std = np.array(record["mean"]), np.array(record["std"])
    if len(contract.units) != 1 or not {mean.size, std.size} <= {1, count}:
        raise RequestError(
            f"{record['module']} normalizes {mean.size} bands, and the chips have"
            f" {count} in {unit}",
            store.root,
            "prepare the bands of the training, in one unit",
        )
    low = np.array([x.low for x in stretches])
    width = np.array([x.high for x in stretches]) - low
    notes += filter(None, [contract.clipping_note])
    notes.append(
        f"chips are resized to {side} pixels, and normalized as by {record['module']}"
        f" in {unit}"
    )
    moments = {"mean": (mean - low) / width, "std": std / width}
    return contract.model_copy(
        update={name: tuple(values.tolist()) for name, values in moments.items()}
    )


def _describe_backbone(
    hparams: JsonObject,
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
    is_linear = isinstance(network.get_classifier(), nn.Linear)
    if pool not in ("token", "avg") or not is_linear:
        raise RequestError(
            f"{model} has the pooling {pool} and no single linear head, which a bundle"
            " cannot express",
            path,
            "choose another network",
        )
    if name is True or "_Weights" in name:
        return {"name": model if name is True else name, "pool": pool}
    if not weights:
        raise RequestError(
            f"the task read its weights from {name}",
            path,
            "give this file with --weights",
        )
    content = read_torch_file(weights) if weights.is_file() else {}
    stored = content.get("state_dict", {})
    stored = {key.replace("model.", ""): tensor for key, tensor in stored.items()}
    names = encoder_state(network, classifier_names(network)).keys()
    missing = names - stored.keys()
    if missing:
        raise WeightsError(
            f"{len(missing)} of the {len(names)} tensors of {model} are missing",
            weights,
            f"give the file that the task read: {name}",
        )
    file = out.absolute().with_name(f"{out.name}-encoder.safetensors")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(file, {key: stored[key] for key in names}, {"format": "pt"})
    notes.append(f"the bundle needs the encoder in {file}")
    return {"name": f"timm:{model}", "weights": str(file), "pool": pool}


def _make_recipe(
    name: str,
    hparams: JsonObject,
    backbone: JsonObject,
    contract: Contract,
    root: str,
) -> Recipe:
    """Return the recipe that describes the classifier of a task."""
    loss = hparams["loss"]
    peft = hparams["peft"]
    if isinstance(loss, str):
        loss = {"name": loss if loss in LOSSES else "ce"}
    data = {
        "root": root,
        "size": contract.size,
        "crop": contract.crop,
        "bands": list(contract.planes),
        "remap": "expand",
    }
    return Recipe.model_validate(
        {
            "name": name.lstrip(".") or "torchgeo",
            "data": data,
            "backbone": backbone,
            "peft": {"method": peft} if isinstance(peft, str) else peft,
            "meta": {"schedule": "joint"} if hparams["learn_scales"] else None,
            "head": {"kind": "linear", "init": "random"},
            "loss": loss,
            "train": {"epochs": 1, "optimizer": "adamw", "lr": hparams["lr"]},
        }
    )
