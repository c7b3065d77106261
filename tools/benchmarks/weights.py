"""Measure memory and time of loading SatMAE's ViT-L/16 from a file like `fmow_pretrain.pth`, with rsft and torch.load.

    python -m tools.benchmarks.weights [--folder /tmp] [--rounds 3]

The command writes a file of full size (4 GB) in the published layout: encoder, decoder,
two AdamW moments of each parameter, and the arguments of the training run. It deletes
the file at the end. Each loader runs in its own process.

"peak" is the largest resident memory while loading (VmHWM) minus the memory after the
imports (VmRSS). It consists of anonymous pages, which belong to the process, and pages
of the mapped file, which belong to the file cache of the system and are released when
memory is short. "anonymous" and "mapped" are the sizes of both after loading. Only
Linux reports these numbers. The file is in the file cache, so the seconds do not
include the disk.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from rsft.backbones.loading import find_card, load_encoder_weights, tensors_sha256
from rsft.errors import RequestError, RsftError
from tools.errors import explained_errors

NAME = "satmae_vit_large_patch16_224.fmow_rgb"
SIZE = 224
DECODER: dict[str, Any] = {"embed_dim": 512, "depth": 8, "num_heads": 16}
"""Shape of the decoder in SatMAE's models_mae.py."""

MAX_RATIO = 1.2
"""Largest accepted ratio of rsft's peak to the size of the encoder."""

ROUNDS = 3


@dataclass(frozen=True)
class LoadingCost:
    """Cost of loading the encoder once.

    Attributes:
        peak: bytes at the peak.
        anonymous: bytes in anonymous pages after loading.
        mapped: bytes in pages of the mapped file after loading.
        seconds: time of loading.
        hashing: seconds of hashing the tensors of the loaded encoder.
    """

    peak: int
    anonymous: int
    mapped: int
    seconds: float
    hashing: float = 0.0


def encoder_state() -> dict[str, Tensor]:
    """Return random weights of the encoder.

    Returns:
        Tensors by name.
    """
    return dict(find_card(NAME).build(SIZE).state_dict())


def decoder_state(encoder: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return random weights of the encoder's decoder.

    Args:
        encoder: tensors of the encoder by name.

    Returns:
        Tensors by name.
    """
    width, channels, patch, _ = encoder["patch_embed.proj.weight"].shape
    vit = VisionTransformer(img_size=SIZE, patch_size=patch, num_classes=0, **DECODER)
    blocks = {
        name: tensor
        for name, tensor in vit.state_dict().items()
        if name.startswith(("blocks", "norm", "pos"))
    }
    embed_and_predict = nn.ModuleDict(
        {
            "decoder_embed": nn.Linear(width, vit.embed_dim),
            "decoder_pred": nn.Linear(vit.embed_dim, channels * patch**2),
        }
    )
    return (
        {"mask_token": vit.state_dict()["cls_token"]}
        | {f"decoder_{name}": tensor for name, tensor in blocks.items()}
        | embed_and_predict.state_dict()
    )


def write_checkpoint(path: Path) -> int:
    """Write the checkpoint, and return the size of its encoder in bytes.

    Args:
        path: path of the file.

    Raises:
        RequestError: the disk has too little space.
    """
    encoder = encoder_state()
    model = encoder | decoder_state(encoder)
    size = 3 * sum(tensor.nbytes for tensor in model.values())
    free = shutil.disk_usage(path.parent).free
    if free < 1.05 * size:
        raise RequestError(
            f"the disk has {free / 1e9:.1f} GB left, and the file needs"
            f" {size / 1e9:.1f} GB",
            path.parent,
            "name another --folder",
        )
    print(
        f"{path.parent}: {free / 1e9:.1f} GB free, the file takes {size / 1e9:.2f} GB"
    )
    moments = {
        index: {
            "step": 1000,
            "exp_avg": torch.zeros_like(tensor),
            "exp_avg_sq": torch.zeros_like(tensor),
        }
        for index, tensor in enumerate(model.values())
    }
    optimizer = {
        "state": moments,
        "param_groups": [{"lr": 1e-4, "params": list(moments)}],
    }
    args = argparse.Namespace(
        model="mae_vit_large_patch16", input_size=SIZE, blr=1.5e-4
    )
    torch.save(
        {
            "model": model,
            "optimizer": optimizer,
            "epoch": 799,
            "scaler": {"scale": 65536.0},
            "args": args,
        },
        path,
    )
    return sum(tensor.nbytes for tensor in encoder.values())


def load_with_rsft(path: Path) -> VisionTransformer:
    """Load the encoder like `load_backbone`.

    Args:
        path: path of the checkpoint.

    Returns:
        The encoder.
    """
    return load_encoder_weights(find_card(NAME), SIZE, path).vit


def load_with_torch(path: Path, mmap: bool = False) -> VisionTransformer:
    """Read the whole checkpoint, build the encoder, and copy the matching tensors.

    Args:
        path: path of the checkpoint.
        mmap: map the file instead of reading it.

    Returns:
        The encoder.
    """
    with torch.serialization.safe_globals([argparse.Namespace]):
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    vit = find_card(NAME).build(SIZE)
    vit.load_state_dict(checkpoint["model"], strict=False)
    return vit


LOADERS: dict[str, Callable[[Path], VisionTransformer]] = {
    "torch.load": load_with_torch,
    "torch.load, mmap": partial(load_with_torch, mmap=True),
    "rsft": load_with_rsft,
}
"""Compared loaders by name."""


def print_cost(loader: str, path: str) -> None:
    """Load the encoder in this process, and print the cost as JSON.

    Args:
        loader: name in `LOADERS`.
        path: path of the checkpoint.
    """
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = memory_bytes()
    start = time.perf_counter()
    vit = LOADERS[loader](Path(path))
    seconds = time.perf_counter() - start
    after = memory_bytes()
    start = time.perf_counter()
    tensors_sha256(vit.state_dict())
    hashing = time.perf_counter() - start
    anonymous = after["RssAnon"] - before["RssAnon"]
    mapped = after["RssFile"] - before["RssFile"]
    print(
        json.dumps(
            asdict(
                LoadingCost(
                    after["VmHWM"] - before["VmRSS"],
                    anonymous,
                    mapped,
                    seconds,
                    hashing,
                )
            )
        )
    )


def memory_bytes() -> dict[str, int]:
    """Return the memory of this process from /proc; RssFile includes files in a file system in memory.

    Returns:
        Bytes by field, such as VmHWM and RssAnon.
    """
    lines = [
        line.split() for line in Path("/proc/self/status").read_text().splitlines()
    ]
    sizes = {
        line[0].rstrip(":"): 1024 * int(line[1]) for line in lines if line[-1] == "kB"
    }
    return sizes | {"RssFile": sizes["RssFile"] + sizes["RssShmem"]}


def measure_cost(loader: str, path: Path, rounds: int) -> LoadingCost:
    """Return the medians over several processes.

    Args:
        loader: name in `LOADERS`.
        path: path of the checkpoint.
        rounds: number of processes.

    Returns:
        Median of each number.
    """
    code = (
        f"from tools.benchmarks.weights import print_cost; print_cost({loader!r},"
        f" {str(path)!r})"
    )
    runs = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", code], check=True, capture_output=True, text=True
            ).stdout
        )
        for _ in range(rounds)
    ]
    return LoadingCost(
        **{key: statistics.median(run[key] for run in runs) for key in runs[0]}
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark; exit with 1 if rsft needs more memory than `MAX_RATIO` allows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder",
        type=Path,
        help="folder for the file (default: the system's temporary folder)",
    )
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="processes per loader (%(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            path = Path(folder) / "fmow_pretrain.pth"
            size = write_checkpoint(path)
            costs = {
                loader: measure_cost(loader, path, options.rounds) for loader in LOADERS
            }
    except RsftError as error:
        parser.exit(error.exit_code, f"{error}\n")
    Console().print(costs_table(costs, size))
    ratio = costs["rsft"].peak / size
    if ratio > MAX_RATIO:
        parser.exit(
            1,
            f"the peak is {ratio:.2f} times the size of the encoder, more than"
            f" {MAX_RATIO}\n",
        )


def costs_table(costs: dict[str, LoadingCost], size: int) -> Table:
    """Return a table with one row per loader, in megabytes of 10^6 bytes.

    Args:
        costs: costs by loader.
        size: size of the encoder in bytes.

    Returns:
        A table to print.
    """
    title = (
        f"encoder {size / 1e6:,.0f} MB; hashing its tensors takes"
        f" {costs['rsft'].hashing:.2f} s"
    )
    table = Table(
        "loader",
        "peak, MB",
        "x encoder",
        "anonymous, MB",
        "mapped, MB",
        "seconds",
        title=title,
    )
    for loader, cost in costs.items():
        sizes = [
            f"{number / 1e6:,.0f}"
            for number in (cost.peak, cost.anonymous, cost.mapped)
        ]
        table.add_row(
            loader,
            sizes[0],
            f"{cost.peak / size:.2f}",
            *sizes[1:],
            f"{cost.seconds:.2f}",
        )
    return table


if __name__ == "__main__":
    with explained_errors():
        main()
