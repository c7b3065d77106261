"""Train with rsft and with the code of the paper's authors on the same batches, and compare every step.

    git clone https://github.com/doem97/metalora
    git clone https://github.com/shijxcs/LIFT
    git -C metalora checkout 5c71a62d40905bf5f38b4c3d36ff93bcf4597d2e
    git -C LIFT checkout 661ead9b78368f05ba79abe4672d63154467f823
    python -m tools.reproduction.against_authors --metalora metalora --lift LIFT

rsft fine-tunes a small vision transformer of timm in float64. The authors' trainers
take the same frozen weights, start and batches. A table has one line per step: the
relative differences of loss and learning rate, and of every trained tensor |theirs -
rsft| / max(|theirs - start|, |rsft - start|), where the norms include all blocks. Its
line "start" compares the tensors with which each code would begin: the head by its
values, others by mean and standard deviation. The exit code is 1 if a difference above
the limit has no reason in `ROWS`, or if a reason explains no difference.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
import timm
import torch
import typer
from safetensors.torch import save_file
from torch import Tensor, nn

from rsft.backbones.mae import LARGE, NORM
from rsft.data.prepare.image_folder import prepare_folder
from rsft.models.devices import copy_batch
from rsft.plugins.sweeps.paper.authors.config import (
    BIASES,
    LAYERS,
    POSITIONS,
    VPT,
    bottleneck_tensors,
    low_rank_tensors,
)
from rsft.plugins.sweeps.paper.authors.process import (
    SATMAE,
    AuthorsTask,
    Trace,
    learned_tensors,
    require_checkout,
    train_by_authors,
)
from rsft.training.fit import train_on_batch
from tools.errors import explained_errors

LIMIT = 2e-6
"""Largest difference of equal computations."""

RANDOM_LIMIT = 0.15
"""Largest difference of mean or standard deviation of two samples of a distribution,
relative to their rms."""

NETWORK: dict[str, Any] = {"model_name": "test_vit", "num_classes": 0, "img_size": 48}
"""Arguments of `timm.create_model`."""

CHIPS = {"train": (56, 32, 20, 12, 6, 2), "val": (1, 1, 1, 1, 1, 1)}
"""Chips of each class."""

RECIPE = """\
data: {{root: '{folder}/store', size: 48, augment: natural}}
backbone: {{name: "timm:test_vit", weights: '{folder}/vit.safetensors', pool: token}}
head: {{kind: cosine, init: class-mean}}
loss: {{name: logit_adjustment}}
train: {{epochs: 12, batch_size: 128, lr: 0.01}}
"""
"""The recipe of all rows. An epoch has one batch, so that a rate that falls once per
epoch falls at every step."""

RANK = 4
SATMAE_BLOCKS = 2
CONFIG = {"num_epochs": 12, "lr": 0.01, "adapter_dim": RANK, "scale_alpha": "rank"}
"""The authors' settings of all rows, beside their defaults."""

HEAD = {
    "start head.weight": (
        "theirs is the mean of raw features, that of rsft the mean of L2-normalized"
        " features"
    )
}
PROMPT_HEAD = {
    "start head.weight": (
        "theirs is the mean of features without prompts, that of rsft with prompts"
    )
}
SSF_START = {
    f"start {layer}.shift": "theirs start at normal noise (0.02), those of rsft at 0"
    for layer in LAYERS
}
SCALES = (
    "theirs takes one outer step per epoch by SGD, without effect outside of it; rsft"
    " one of Adam every K steps"
)
OUT = (
    "theirs reads the output of the projection, that of rsft its input"
    " (peft.out_insertion: parallel)"
)
RATE = "theirs falls once per epoch, that of rsft at every step"
RISE = (
    "theirs is 0 after the epochs of plain LoRA and rises in the extra ones; that of"
    " rsft falls over all epochs"
)

LORA = "peft.method=lora peft.rank=4 peft.init=rank peft.positions=qv peft.alpha=1"
FLORA = (
    "peft.method=lora peft.rank=4 peft.init=rank peft.alpha=4 peft.positions=qkvo12"
    " train.lr=0.02 train.head_lr=0.01"
)
ADAPTFORMER = "peft.method=adaptformer peft.scale=learnable"
SHORT = f"{LORA} train.epochs=3 train.batch_size=32 train.lr=0.02"
META = (
    "peft.method=lora peft.rank=4 peft.init=rank peft.positions=qv train.epochs=5"
    " train.batch_size=32 train.lr=0.02 train.schedule=constant meta.init_scale=0.25"
    " meta.outer_every=3 meta.ratio=0.2 meta.lr=0.01 meta.warmup=0"
)
META_ADAPTER = (
    "peft.method=adapter peft.modulator=feature train.epochs=5 train.batch_size=32"
    " train.lr=0.02 train.schedule=constant meta.init_scale=1 meta.schedule=metalora"
    " meta.outer_every=3 meta.ratio=0.2 meta.lr=0.01 meta.warmup=0"
)
META_ADAPTFORMER = f"{META_ADAPTER} peft.method=adaptformer peft.scale=learnable"
SATMAE_RECIPE = f"backbone.name={SATMAE} backbone.blocks={SATMAE_BLOCKS}"
META_COSINE = "train.schedule=cosine train.epochs=10"


@dataclass(frozen=True)
class Row:
    """A comparison.

    Attributes:
        name: the title.
        code: "metalora" or "LIFT".
        recipe: changes of `RECIPE`, separated by spaces.
        config: changes of `CONFIG`.
        tensors: trained tensors of a block in rsft -> parameters of the authors, where
            * is the block.
        reasons: column, "start " and column, or "all" -> why it differs. Equality is
            claimed for all others.
        backbone: changes of `RECIPE` for the file of SatMAE, which metalora loads by
            its own code; None for `NETWORK`.
    """

    name: str
    code: str
    recipe: str
    config: Mapping[str, Any]
    tensors: Mapping[str, str]
    reasons: Mapping[str, str] = field(default_factory=lambda: HEAD)
    backbone: str | None = None


_QV = low_rank_tensors("lora_list", "q", "v")
_FLORA = low_rank_tensors("flora_list", *POSITIONS)
_QV_CONFIG = {"lora": True, "scale_alpha": 1}
_FLORA_CONFIG = {
    "use_flora": True,
    "flora": {
        "arch": {"alpha": 4, "layers": list(range(6)), "modules": list(POSITIONS)}
    },
}
_META = _QV | {
    f"{position}.alpha": f"tuner.lora_list.*.{position}.meta_alpha" for position in "qv"
}
_META_CONFIG = _QV_CONFIG | {
    "num_epochs": 4,
    "scheduler": "ConstantLR",
    "use_meta": True,
}
_META_CONFIG |= {"meta_lr": 0.01, "meta_inner_steps": 3, "meta_data_ratio": 0.2}
_ADAPTER_CONFIG = {"lora": False, "adapter": True, "scale_alpha": "rank"}
_ADAPTFORMER_CONFIG = {"lora": False, "adaptformer": True, "scale_alpha": "rank"}
_META_ADAPTER = bottleneck_tensors("adapter_list") | {
    "mlp.alpha": "tuner.adapter_list.*.meta_scale"
}
_META_ADAPTFORMER = bottleneck_tensors("adaptformer_list", "scaling") | {
    "mlp.alpha": "tuner.adaptformer_list.*.meta_scale"
}
_SSF = {
    f"{ours}.{x}": f"tuner.{theirs}.{x}"
    for ours, theirs in LAYERS.items()
    for x in ("scale", "shift")
}

ROWS: tuple[Row, ...] = (
    Row(
        "logit adjustment, cosine head", "metalora", "peft.method=linear-probe", {}, {}
    ),
    Row("LoRA at q and v", "metalora", LORA, _QV_CONFIG, _QV),
    Row("LoRA at q and v", "LIFT", LORA, _QV_CONFIG, _QV),
    Row(
        "FLoRA at six positions",
        "metalora",
        f"{FLORA} peft.out_insertion=sequential",
        _FLORA_CONFIG,
        _FLORA,
    ),
    Row(
        "FLoRA at six positions, Out parallel",
        "metalora",
        FLORA,
        _FLORA_CONFIG,
        _FLORA,
        {"all": OUT},
    ),
    Row(
        "AdaptFormer",
        "metalora",
        ADAPTFORMER,
        {"adaptformer": True},
        bottleneck_tensors("adaptformer_list", "scaling"),
    ),
    Row(
        "AdaptFormer",
        "LIFT",
        ADAPTFORMER,
        {"adaptformer": True},
        bottleneck_tensors("adaptformer_list", "scale"),
    ),
    Row(
        "Adapter",
        "metalora",
        "peft.method=adapter",
        {"adapter": True},
        bottleneck_tensors("adapter_list"),
    ),
    Row(
        "Adapter",
        "LIFT",
        "peft.method=adapter",
        {"adapter": True},
        bottleneck_tensors("adapter_list"),
    ),
    Row(
        "VPT-Shallow",
        "LIFT",
        "peft.method=vpt-shallow",
        {"vpt_shallow": True},
        VPT,
        PROMPT_HEAD,
    ),
    Row(
        "VPT-Deep", "LIFT", "peft.method=vpt-deep", {"vpt_deep": True}, VPT, PROMPT_HEAD
    ),
    Row(
        "BitFit",
        "LIFT",
        "peft.method=bitfit peft.blocks=every:1",
        {"bias_tuning": True},
        BIASES,
    ),
    Row(
        "SSF",
        "LIFT",
        "peft.method=ssf peft.blocks=every:1",
        {"ssf_attn": True, "ssf_mlp": True, "ssf_ln": True},
        _SSF,
        HEAD | SSF_START,
    ),
    Row(
        "LoRA, constant rate, four batches per epoch",
        "metalora",
        f"{SHORT} train.schedule=constant",
        _QV_CONFIG | {"num_epochs": 3, "scheduler": "ConstantLR"},
        _QV,
    ),
    Row(
        "LoRA, cosine rate, four batches per epoch",
        "metalora",
        SHORT,
        _QV_CONFIG | {"num_epochs": 3},
        _QV,
        {"all": RATE},
    ),
    Row("MetaLoRA", "metalora", f"{META} meta.schedule=metalora", _META_CONFIG, _META),
    Row(
        "MetaLoRA, cosine rate, two extra epochs",
        "metalora",
        f"{META} {META_COSINE} meta.schedule=metalora",
        _META_CONFIG | {"num_epochs": 8, "scheduler": "CosineAnnealingLR"},
        _META,
        {"all": RISE},
    ),
    Row(
        "MetaAdapter",
        "metalora",
        META_ADAPTER,
        _META_CONFIG | _ADAPTER_CONFIG,
        _META_ADAPTER,
    ),
    Row(
        "MetaAdaptFormer",
        "metalora",
        META_ADAPTFORMER,
        _META_CONFIG | _ADAPTFORMER_CONFIG,
        _META_ADAPTFORMER,
    ),
    Row(
        "MetaLoRA on SatMAE, by their loader",
        "metalora",
        f"{META} meta.schedule=metalora train.epochs=2",
        _META_CONFIG | {"num_epochs": 1},
        _META,
        HEAD,
        SATMAE_RECIPE,
    ),
    Row(
        "MetaLoRA, alternating",
        "metalora",
        f"{META} meta.schedule=alternating",
        _META_CONFIG,
        _META,
        {"all": SCALES},
    ),
)


def write_inputs(folder: Path) -> None:
    """Write a chip store of noise, a network with random weights, biases and norms, and the recipe."""
    rng = np.random.default_rng(0)
    for split, counts in CHIPS.items():
        for label, count in enumerate(counts):
            chips = folder / f"chips/{split}/{label}"
            chips.mkdir(parents=True)
            for number in range(count):
                cv2.imwrite(
                    str(chips / f"{number}.png"),
                    rng.integers(0, 256, (48, 48, 3), np.uint8),
                )
    prepare_folder(folder / "chips", folder / "store")
    save_file(_random_state(timm.create_model(**NETWORK)), folder / "vit.safetensors")
    (folder / "recipe.yaml").write_text(RECIPE.format(folder=folder))
    _write_satmae(folder / "satmae.pth")


def _random_state(network: nn.Module) -> dict[str, Tensor]:
    """Return random weights, biases and norms for a network, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, tensor in network.state_dict().items():
        noise = torch.randn(tensor.shape, generator=generator)
        is_gain = "norm" in name and name.endswith("weight")
        state[name] = (
            1 + 0.2 * noise
            if is_gain
            else noise * (0.2 if tensor.ndim < 2 else tensor[0].numel() ** -0.5)
        )
    return state


def _write_satmae(path: Path) -> None:
    """Write a masked autoencoder in the layout of SatMAE's fmow_pretrain.pth, with few blocks and random weights."""
    options = LARGE | {
        "depth": SATMAE_BLOCKS,
        "img_size": 48,
        "patch_size": 16,
        "num_classes": 0,
        "norm_layer": NORM,
    }
    state = _random_state(timm.models.VisionTransformer(**options))
    decoder = {
        "mask_token": torch.zeros(1, 1, 512),
        "decoder_embed.weight": torch.randn(512, 1024),
    }
    torch.save({"model": state | decoder, "epoch": 799}, path)


def task_of(folder: Path, row: Row) -> AuthorsTask:
    """Return the training of a row, given the folder of `write_inputs`."""
    weights = (
        ()
        if row.backbone is None
        else (f"backbone.weights={folder / 'satmae.pth'}", *row.backbone.split())
    )
    overrides = (*weights, *row.recipe.split())
    config = CONFIG | dict(row.config)
    return AuthorsTask(
        str(folder / "recipe.yaml"),
        overrides,
        config,
        row.tensors,
        "float64",
        every_step=True,
    )


def train_with_rsft(task: AuthorsTask) -> Trace:
    """Train with rsft.

    Args:
        task: see `task_of`.
    """
    _, learner = task.prepare()
    trace = Trace(learned_tensors(learner), [], [], [])
    for epoch in range(learner.train.epochs):
        learner.classifier.train()
        for index, loaded in enumerate(learner.batches.training_loader(epoch)):
            batch = copy_batch(loaded, learner.device)
            trace.losses.append(float(train_on_batch(learner, batch, epoch, index)))
            rates = [
                group["lr"] for group in learner.loops.inner_optimizer.param_groups
            ]
            trace.rates.append((rates[0], rates[-1]))
            trace.states.append(learned_tensors(learner))
    return trace


def compare(ours: Trace, theirs: Trace) -> pd.DataFrame:
    """Return the differences of two trainings.

    Returns:
        A line "start", and one for each step. Columns: "loss", "rate", and each tensor
        of a block, or of the head. A tensor that only one of them trains differs by
        infinity.
    """
    columns: dict[str, list[str]] = {}
    for name in ours.start | theirs.start:
        columns.setdefault(re.sub(r"^blocks\.\d+\.", "", name), []).append(name)
    table = {
        "loss": [np.nan, *map(_difference, ours.losses, theirs.losses)],
        "rate": [np.nan, *map(_difference, ours.rates, theirs.rates)],
    }
    for column, names in columns.items():
        if not set(names) <= ours.start.keys() & theirs.start.keys():
            table[column] = [np.inf] * (1 + len(ours.states))
            continue
        start, *a = [
            torch.cat([state[name].flatten() for name in names])
            for state in (ours.start, *ours.states)
        ]
        their_start, *b = [
            torch.cat([state[name].flatten() for name in names])
            for state in (theirs.start, *theirs.states)
        ]
        first = _difference if column.startswith("head.") else _compare_moments
        steps = [_difference(x, y, start) for x, y in zip(a, b, strict=True)]
        table[column] = [first(start, their_start), *steps]
    return pd.DataFrame(table, index=["start", *range(len(ours.states))])


def _difference(ours: Any, theirs: Any, origin: Any = 0.0) -> float:
    ours = torch.as_tensor(ours, dtype=torch.float64)
    theirs = torch.as_tensor(theirs, dtype=torch.float64)
    return _ratio(
        (theirs - ours).norm(), max((x - origin).norm() for x in (ours, theirs))
    )


def _compare_moments(ours: Tensor, theirs: Tensor) -> float:
    moments = torch.tensor([[x.mean(), x.std(correction=0)] for x in (ours, theirs)])
    return _ratio((moments[0] - moments[1]).abs().max(), theirs.square().mean().sqrt())


def _ratio(distance: Tensor, size: Tensor) -> float:
    if distance != 0:
        return float((distance / size).nan_to_num(np.inf, np.inf))
    return 0.0


class Verdict(NamedTuple):
    """A claim of a row: "equal", "different" with a reason, or "FAULT", and the largest difference."""

    claim: str
    largest: float
    text: str


def judge(table: pd.DataFrame, reasons: Mapping[str, str]) -> list[Verdict]:
    """Judge the differences of a row.

    Args:
        table: see `compare`.
        reasons: see `Row`.

    Returns:
        A verdict on all columns without a reason, then one on each reason. A fault is a
        difference without a reason, whose text names the columns, or a reason without a
        difference.
    """
    largest: dict[str, float] = {}
    for column, (start, *steps) in table.to_dict("list").items():
        largest |= {f"{column}": max(steps)} | (
            {} if np.isnan(start) else {f"start {column}": start}
        )
    groups: dict[str, list[str]] = {}
    for name in largest:
        groups.setdefault(reasons.get(name, reasons.get("all", "")), []).append(name)
    verdicts = []
    for reason, names in groups.items():
        exact = [
            name
            for name in names
            if not name.startswith("start ") or name.startswith("start head.")
        ]
        faults = [
            name
            for name in names
            if not largest[name] <= (LIMIT if name in exact else RANDOM_LIMIT)
        ]
        value = max(largest[name] for name in faults or exact or names)
        if reason:
            verdicts.append(Verdict("different" if faults else "FAULT", value, reason))
        else:
            verdicts.append(
                Verdict("FAULT" if faults else "equal", value, ", ".join(faults))
            )
    return verdicts


def run(
    checkouts: Mapping[str, Path], rows: Sequence[Row] = ROWS
) -> Iterator[tuple[Row, pd.DataFrame]]:
    """Iterate over the rows with their differences.

    Args:
        checkouts: folder of each repository of `COMMITS`.
        rows: the comparisons.

    Yields:
        A row and its differences, as soon as they are computed.

    Raises:
        RequestError: a folder is no checkout of the commit.
        RsftError: the code of the authors fails.
    """
    for name, folder in checkouts.items():
        require_checkout(name, folder)
    with tempfile.TemporaryDirectory() as temporary:
        write_inputs(Path(temporary))
        for row in rows:
            task = task_of(Path(temporary), row)
            theirs = train_by_authors(checkouts[row.code], "cpu", task)
            yield row, compare(train_with_rsft(task), theirs)


def main(
    metalora: Annotated[
        Path, typer.Option(help="Checkout of github.com/doem97/metalora.")
    ],
    lift: Annotated[Path, typer.Option(help="Checkout of github.com/shijxcs/LIFT.")],
) -> None:
    """Compare all rows, print the differences of each step row by row, and a summary."""
    summary: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for row, table in run({"metalora": metalora, "LIFT": lift}):
        name = f"{row.name} ({row.code})"
        typer.echo(
            f"{name}\n{table.to_string(float_format='{:.0e}'.format, na_rep='')}"
        )
        for claim, value, text in judge(table, row.reasons):
            typer.echo(f"{claim} {value:.1e} {text}")
            summary.setdefault((claim, text), []).append((value, name))
        typer.echo("")
    for (claim, text), lines in sorted(summary.items()):
        typer.echo(f"{claim}{text and ': '}{text}")
        for value, name in lines:
            typer.echo(f"    {value:.1e}  {name}")
    raise typer.Exit(int(any(claim == "FAULT" for claim, _ in summary)))


if __name__ == "__main__":
    with explained_errors():
        typer.run(main)
