"""Train with rsft and with the code of the paper's authors on the same batches, and compare every step.

    git clone https://github.com/doem97/metalora
    git clone https://github.com/shijxcs/LIFT
    git -C metalora checkout 5c71a62d40905bf5f38b4c3d36ff93bcf4597d2e
    git -C LIFT checkout 661ead9b78368f05ba79abe4672d63154467f823
    python -m tools.reproduction.against_authors --metalora metalora --lift LIFT

rsft fine-tunes a small vision transformer of timm in float64. The authors' trainers take the same frozen weights, start
and batches. A table has one line per step: the relative differences of loss and learning rate, and of every trained
tensor |theirs - rsft| / max(|theirs - start|, |rsft - start|), where the norms include all blocks. Its line "start"
compares the tensors with which each code would begin: the head by its values, others by mean and standard deviation.
The exit code is 1 if a difference above the limit has no reason in `ROWS`, or if a reason explains no difference.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
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
from torch import Tensor

from rsft.data.prepare.image_folder import prepare_folder
from rsft.errors import RequestError, RsftError
from rsft.recipe.load import load_recipe
from rsft.training.finetune import initialize_weights, make_learner, seed_generators, set_up
from rsft.training.fit import train_on_batch
from tools.errors import explained_errors

COMMITS = {
    "metalora": "5c71a62d40905bf5f38b4c3d36ff93bcf4597d2e",
    "LIFT": "661ead9b78368f05ba79abe4672d63154467f823",
}
"""Commit of each repository."""

LIMIT = 2e-6
"""Largest difference of equal computations."""

RANDOM_LIMIT = 0.15
"""Largest difference of mean or standard deviation of two samples of a distribution, relative to their rms."""

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
"""The recipe of all rows. An epoch has one batch, so that a rate that falls once per epoch falls at every step."""

RANK = 4
CONFIG = {"num_epochs": 12, "lr": 0.01, "adapter_dim": RANK, "scale_alpha": "rank"}
"""The authors' settings of all rows, beside their defaults."""

POSITIONS = ("q", "k", "v", "out", "mlp1", "mlp2")
LAYERS = {
    "norm1": "ssf_ln_list.*.ln_1",
    "attn.qkv": "ssf_attn_list.*.attn_in",
    "attn.proj": "ssf_attn_list.*.attn_out",
    "norm2": "ssf_ln_list.*.ln_2",
    "mlp.fc1": "ssf_mlp_list.*.mlp_in",
    "mlp.fc2": "ssf_mlp_list.*.mlp_out",
}
VPT = {"prompts": "tuner.vpt_list.*.prompt"}


def _low_rank(modules: str, *positions: str) -> dict[str, str]:
    return {f"{p}.{name}": f"tuner.{modules}.*.{p}.lora_{name.upper()}" for p in positions for name in "ab"}


def _bottleneck(modules: str, scale: str = "") -> dict[str, str]:
    layers = {"norm": "ln", "down": "down_proj", "up": "up_proj"}
    names = {f"{ours}.{x}": f"{theirs}.{x}" for ours, theirs in layers.items() for x in ("weight", "bias")}
    names |= {"scale": scale} if scale else {}
    return {f"mlp.{ours}": f"tuner.{modules}.*.{theirs}" for ours, theirs in names.items()}


HEAD = {"start head.weight": "theirs is the mean of raw features, that of rsft the mean of L2-normalized features"}
PROMPT_HEAD = {"start head.weight": "theirs is the mean of features without prompts, that of rsft with prompts"}
SSF_START = {f"start {layer}.shift": "theirs start at normal noise (0.02), those of rsft at 0" for layer in LAYERS}
SCALES = "theirs takes one outer step per epoch by SGD, without effect outside of it; rsft one of Adam every K steps"
OUT = "theirs reads the output of the projection, that of rsft its input (peft.out_insertion: parallel)"
RATE = "theirs falls once per epoch, that of rsft at every step"
RISE = "theirs is 0 after the epochs of plain LoRA and rises in the extra ones; that of rsft falls over all epochs"

LORA = "peft.method=lora peft.rank=4 peft.init=rank peft.positions=qv peft.alpha=1"
FLORA = (
    "peft.method=lora peft.rank=4 peft.init=rank peft.alpha=4 peft.positions=qkvo12 train.lr=0.02 train.head_lr=0.01"
)
ADAPTFORMER = "peft.method=adaptformer peft.scale=learnable"
SHORT = f"{LORA} train.epochs=3 train.batch_size=32 train.lr=0.02"
META = (
    "peft.method=lora peft.rank=4 peft.init=rank peft.positions=qv train.epochs=5 train.batch_size=32 train.lr=0.02"
    " train.schedule=constant meta.init_scale=0.25 meta.outer_every=3 meta.ratio=0.2 meta.lr=0.01 meta.warmup=0"
)
META_COSINE = "train.schedule=cosine train.epochs=10"


@dataclass(frozen=True)
class Row:
    """A comparison.

    Attributes:
        name: the title.
        code: "metalora" or "LIFT".
        recipe: changes of `RECIPE`, separated by spaces.
        config: changes of `CONFIG`.
        tensors: trained tensors of a block in rsft -> parameters of the authors, where * is the block.
        reasons: column, "start " and column, or "all" -> why it differs. Equality is claimed for all others.
    """

    name: str
    code: str
    recipe: str
    config: Mapping[str, Any]
    tensors: Mapping[str, str]
    reasons: Mapping[str, str] = field(default_factory=lambda: HEAD)


_QV, _FLORA = _low_rank("lora_list", "q", "v"), _low_rank("flora_list", *POSITIONS)
_QV_CONFIG = {"lora": True, "scale_alpha": 1}
_FLORA_CONFIG = {
    "use_flora": True,
    "flora": {"arch": {"alpha": 4, "layers": list(range(6)), "modules": list(POSITIONS)}},
}
_META = _QV | {f"{position}.alpha": f"tuner.lora_list.*.{position}.meta_alpha" for position in "qv"}
_META_CONFIG = _QV_CONFIG | {"num_epochs": 4, "scheduler": "ConstantLR", "use_meta": True}
_META_CONFIG |= {"meta_lr": 0.01, "meta_inner_steps": 3, "meta_data_ratio": 0.2}
_BIASES = {f"{layer}.bias": f"image_encoder.blocks.*.{layer}.bias" for layer in LAYERS}
_SSF = {f"{ours}.{x}": f"tuner.{theirs}.{x}" for ours, theirs in LAYERS.items() for x in ("scale", "shift")}

ROWS: tuple[Row, ...] = (
    Row("logit adjustment, cosine head", "metalora", "peft.method=linear-probe", {}, {}),
    Row("LoRA at q and v", "metalora", LORA, _QV_CONFIG, _QV),
    Row("LoRA at q and v", "LIFT", LORA, _QV_CONFIG, _QV),
    Row("FLoRA at six positions", "metalora", f"{FLORA} peft.out_insertion=sequential", _FLORA_CONFIG, _FLORA),
    Row("FLoRA at six positions, Out parallel", "metalora", FLORA, _FLORA_CONFIG, _FLORA, {"all": OUT}),
    Row("AdaptFormer", "metalora", ADAPTFORMER, {"adaptformer": True}, _bottleneck("adaptformer_list", "scaling")),
    Row("AdaptFormer", "LIFT", ADAPTFORMER, {"adaptformer": True}, _bottleneck("adaptformer_list", "scale")),
    Row("Adapter", "metalora", "peft.method=adapter", {"adapter": True}, _bottleneck("adapter_list")),
    Row("Adapter", "LIFT", "peft.method=adapter", {"adapter": True}, _bottleneck("adapter_list")),
    Row("VPT-Shallow", "LIFT", "peft.method=vpt-shallow", {"vpt_shallow": True}, VPT, PROMPT_HEAD),
    Row("VPT-Deep", "LIFT", "peft.method=vpt-deep", {"vpt_deep": True}, VPT, PROMPT_HEAD),
    Row("BitFit", "LIFT", "peft.method=bitfit peft.blocks=every:1", {"bias_tuning": True}, _BIASES),
    Row(
        *("SSF", "LIFT", "peft.method=ssf peft.blocks=every:1"),
        *({"ssf_attn": True, "ssf_mlp": True, "ssf_ln": True}, _SSF, HEAD | SSF_START),
    ),
    Row(
        *("LoRA, constant rate, four batches per epoch", "metalora", f"{SHORT} train.schedule=constant"),
        *(_QV_CONFIG | {"num_epochs": 3, "scheduler": "ConstantLR"}, _QV),
    ),
    Row(
        *("LoRA, cosine rate, four batches per epoch", "metalora", SHORT),
        *(_QV_CONFIG | {"num_epochs": 3}, _QV, {"all": RATE}),
    ),
    Row("MetaLoRA", "metalora", f"{META} meta.schedule=metalora", _META_CONFIG, _META),
    Row(
        *("MetaLoRA, cosine rate, two extra epochs", "metalora", f"{META} {META_COSINE} meta.schedule=metalora"),
        *(_META_CONFIG | {"num_epochs": 8, "scheduler": "CosineAnnealingLR"}, _META, {"all": RISE}),
    ),
    Row("MetaLoRA, alternating", "metalora", f"{META} meta.schedule=alternating", _META_CONFIG, _META, {"all": SCALES}),
)


@dataclass(frozen=True)
class Trace:
    """A training.

    Attributes:
        start: the tensors with which the code begins, by the name in rsft.
        losses: the loss of each step.
        rates: learning rates of modules and head at each step.
        states: the tensors after each step.
    """

    start: dict[str, Tensor]
    losses: list[float]
    rates: list[tuple[float, float]]
    states: list[dict[str, Tensor]]


def write_inputs(folder: Path) -> None:
    """Write a chip store of noise, a network with random weights, biases and norms, and the recipe."""
    rng = np.random.default_rng(0)
    for split, counts in CHIPS.items():
        for label, count in enumerate(counts):
            (chips := folder / f"chips/{split}/{label}").mkdir(parents=True)
            for number in range(count):
                cv2.imwrite(str(chips / f"{number}.png"), rng.integers(0, 256, (48, 48, 3), np.uint8))
    prepare_folder(folder / "chips", folder / "store")
    generator, state = torch.Generator().manual_seed(0), {}
    for name, tensor in timm.create_model(**NETWORK).state_dict().items():
        noise = torch.randn(tensor.shape, generator=generator)
        is_gain = "norm" in name and name.endswith("weight")
        state[name] = 1 + 0.2 * noise if is_gain else noise * (0.2 if tensor.ndim < 2 else tensor[0].numel() ** -0.5)
    save_file(state, folder / "vit.safetensors")
    (folder / "recipe.yaml").write_text(RECIPE.format(folder=folder))


def train_with_rsft(folder: Path, row: Row) -> tuple[Trace, dict[str, Any]]:
    """Train with rsft.

    Args:
        folder: see `write_inputs`.
        row: the comparison.

    Returns:
        The training, and the record with which `authors_trainer` repeats it.
    """
    recipe = load_recipe(folder / "recipe.yaml", row.recipe.split())
    seed_generators(recipe.seed)
    setup = set_up(recipe)
    initialize_weights(setup, recipe)
    record: dict[str, Any] = {
        "network": NETWORK,
        "weights": {name: tensor.clone() for name, tensor in setup.encoder.vit.state_dict().items()},
        "config": CONFIG | dict(row.config),
        "counts": setup.store.class_counts("train").tolist(),
        "training_chips": list(setup.train.batches(64)),
        "batches": [],
        "meta_train": [],
        "meta_val": [],
    }
    classifier = setup.classifier.double()
    patch_embed = classifier.adapted.vit.get_submodule("patch_embed")
    patch_embed.register_forward_pre_hook(lambda module, args: (args[0].double(),))
    learner = make_learner(recipe, setup)

    def copy_state() -> dict[str, Tensor]:
        scales = learner.loops.scales()
        alphas = {f"{site}.alpha": torch.tensor(RANK * x, dtype=torch.float64) for site, x in scales.items()}
        state = {name: tensor.clone() for name, tensor in classifier.learned_state().items() if name != "gamma"}
        return state | alphas

    trace = Trace(copy_state(), [], [], [])
    for epoch in range(recipe.train.epochs):
        classifier.train()
        record["batches"].append(list(learner.batches.training_loader(epoch)))
        for index, batch in enumerate(record["batches"][-1]):
            outer_batch = learner.prepare_step(epoch, index)
            if outer_batch is not None:
                trials = [x for x, _ in getattr(learner.loops, "trial_batches", [(outer_batch, 1.0)])]
                record["meta_train"] += [[trial] for trial in trials]
                record["meta_val"].append([outer_batch])
            trace.losses.append(float(train_on_batch(learner, batch, epoch, index)))
            rates = [group["lr"] for group in learner.loops.inner_optimizer.param_groups]
            trace.rates.append((rates[0], rates[-1]))
            trace.states.append(copy_state())
    record["names"] = {_authors_name(name, row): name for name in trace.start}
    record["start"] = {theirs: _swap(ours, trace.start[ours]).contiguous() for theirs, ours in record["names"].items()}
    return trace, record


def _authors_name(name: str, row: Row) -> str:
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
    return row.tensors[match[2]].replace("*", match[1]) if match and match[2] in row.tensors else name


def _swap(name: str, tensor: Tensor) -> Tensor:
    """Swap the axes of a factor of LoRA: those of the authors are (in, r) and (r, out)."""
    return tensor.T if name.endswith((".a", ".b")) else tensor


def train_with_authors(checkout: Path, records: Sequence[dict[str, Any]]) -> list[Trace]:
    """Train with the authors' code, in a process of its own.

    Args:
        checkout: folder of the code.
        records: see `train_with_rsft`.

    Returns:
        A training for each record, with the names and the axes of rsft.

    Raises:
        RsftError: the code fails.
    """
    script = Path(__file__).with_name("authors_trainer.py")
    with tempfile.TemporaryDirectory() as folder:
        torch.save(records, f"{folder}/records.pt")
        command = [sys.executable, "-I", str(script), str(checkout.resolve()), "records.pt", "results.pt"]
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}  # LIFT takes a GPU if there is one
        process = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if process.returncode:
            raise RsftError("the code of the authors failed", checkout, process.stderr[-2000:])
        results = torch.load(f"{folder}/results.pt", weights_only=True)
    traces = []
    for record, result in zip(records, results, strict=True):
        first, *states = (
            {name: _swap(name, x) for name, x in ((record["names"].get(k, k), x) for k, x in state.items())}
            for state in (result["start"], *result["states"])
        )
        traces.append(Trace(first, result["losses"], result["rates"], states))
    return traces


def compare(ours: Trace, theirs: Trace) -> pd.DataFrame:
    """Return the differences of two trainings.

    Returns:
        A line "start", and one for each step. Columns: "loss", "rate", and each tensor of a block, or of the head. A
        tensor that only one of them trains differs by infinity.
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
        (start, *a), (their_start, *b) = (
            [torch.cat([state[name].flatten() for name in names]) for state in (trace.start, *trace.states)]
            for trace in (ours, theirs)
        )
        first = _difference if column.startswith("head.") else _compare_moments
        steps = [_difference(x, y, start) for x, y in zip(a, b, strict=True)]
        table[column] = [first(start, their_start), *steps]
    return pd.DataFrame(table, index=["start", *range(len(ours.states))])


def _difference(ours: Any, theirs: Any, origin: Any = 0.0) -> float:
    ours, theirs = (torch.as_tensor(x, dtype=torch.float64) for x in (ours, theirs))
    return _ratio((theirs - ours).norm(), max((x - origin).norm() for x in (ours, theirs)))


def _compare_moments(ours: Tensor, theirs: Tensor) -> float:
    moments = torch.tensor([[x.mean(), x.std(correction=0)] for x in (ours, theirs)])
    return _ratio((moments[0] - moments[1]).abs().max(), theirs.square().mean().sqrt())


def _ratio(distance: Tensor, size: Tensor) -> float:
    return float((distance / size).nan_to_num(np.inf, np.inf)) if distance != 0 else 0.0


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
        A verdict on all columns without a reason, then one on each reason. A fault is a difference without a reason,
        whose text names the columns, or a reason without a difference.
    """
    largest: dict[str, float] = {}
    for column, (start, *steps) in table.to_dict("list").items():
        largest |= {f"{column}": max(steps)} | ({} if np.isnan(start) else {f"start {column}": start})
    groups: dict[str, list[str]] = {}
    for name in largest:
        groups.setdefault(reasons.get(name, reasons.get("all", "")), []).append(name)
    verdicts = []
    for reason, names in groups.items():
        exact = [name for name in names if not name.startswith("start ") or name.startswith("start head.")]
        faults = [name for name in names if not largest[name] <= (LIMIT if name in exact else RANDOM_LIMIT)]
        value = max(largest[name] for name in faults or exact or names)
        if reason:
            verdicts.append(Verdict("different" if faults else "FAULT", value, reason))
        else:
            verdicts.append(Verdict("FAULT" if faults else "equal", value, ", ".join(faults)))
    return verdicts


def run(checkouts: Mapping[str, Path], rows: Sequence[Row] = ROWS) -> list[pd.DataFrame]:
    """Return the differences of each row.

    Args:
        checkouts: folder of each repository of `COMMITS`.
        rows: the comparisons.

    Raises:
        RequestError: a folder is no checkout of the commit.
        RsftError: the code of the authors fails.
    """
    for name, folder in checkouts.items():
        command = ["git", "-C", str(folder), "diff", "--quiet", COMMITS[name], "--", "*.py"]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            hint = f"git clone the repository of {name}, and git checkout {COMMITS[name]}"
            raise RequestError(f"the Python files are not those of {name} at {COMMITS[name][:7]}", folder, hint)
    with tempfile.TemporaryDirectory() as temporary:
        write_inputs(Path(temporary))
        pairs = [train_with_rsft(Path(temporary), row) for row in rows]
    tables: dict[int, pd.DataFrame] = {}
    for name, checkout in checkouts.items():
        numbers = [number for number, row in enumerate(rows) if row.code == name]
        traces = train_with_authors(checkout, [pairs[number][1] for number in numbers])
        tables |= {number: compare(pairs[number][0], trace) for number, trace in zip(numbers, traces, strict=True)}
    return [tables[number] for number in range(len(rows))]


def main(
    metalora: Annotated[Path, typer.Option(help="Checkout of github.com/doem97/metalora.")],
    lift: Annotated[Path, typer.Option(help="Checkout of github.com/shijxcs/LIFT.")],
) -> None:
    """Compare all rows, and print the differences of each step, and a summary."""
    summary: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for row, table in zip(ROWS, run({"metalora": metalora, "LIFT": lift}), strict=True):
        name = f"{row.name} ({row.code})"
        typer.echo(f"{name}\n{table.to_string(float_format='{:.0e}'.format, na_rep='')}\n")
        for claim, value, text in judge(table, row.reasons):
            summary.setdefault((claim, text), []).append((value, name))
    for (claim, text), lines in sorted(summary.items()):
        typer.echo(f"{claim}{text and ': '}{text}")
        for value, name in lines:
            typer.echo(f"    {value:.1e}  {name}")
    raise typer.Exit(int(any(claim == "FAULT" for claim, _ in summary)))


if __name__ == "__main__":
    with explained_errors():
        typer.run(main)
