"""Memory and time of loading SatMAE's ViT-L/16 out of a file like `fmow_pretrain.pth`, beside plain `torch.load`.

python -m tools.benchmarks.weights [--folder /tmp] [--rounds 3]

The file is made here, at full size and in the published layout: encoder, decoder, AdamW's two moments of each of their
parameters, and the run's arguments; 4 GB that are removed again. Every way loads it in a process of its own.

"peak" is the largest resident memory while loading (VmHWM) over that after the imports (VmRSS): anonymous pages, which
are this process's own, and pages of the mapped file, which belong to the system's file cache and go when memory is
short; "own" and "mapped" say how much of each is left at the end. Linux alone counts like this. The file is in the
cache, so the seconds are those of memory and processor, not of the disk.
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
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from rsft.backbones.loading import digest, load_whole
from rsft.backbones.registry import find_card
from rsft.errors import RequestError, RsftError

NAME, SIZE = "satmae_vit_large_patch16_224.fmow_rgb", 224
DECODER: dict[str, Any] = {"embed_dim": 512, "depth": 8, "num_heads": 16}  # models_mae.py
LIMIT = 1.2  # peak over the encoder's size
ROUNDS = 3


@dataclass(frozen=True)
class Cost:
    """Of one loading: bytes at the peak, bytes that stay by kind of page, seconds, and those of the hash alone."""

    peak: int
    anonymous: int
    mapped: int
    seconds: float
    hashing: float = 0.0


def encoder_state() -> dict[str, Tensor]:
    """Random weights of the real architecture."""
    return dict(find_card(NAME).build(SIZE).state_dict())


def decoder_state(encoder: dict[str, Tensor]) -> dict[str, Tensor]:
    """Random weights of the decoder that belongs to it."""
    width, channels, patch, _ = encoder["patch_embed.proj.weight"].shape
    vit = VisionTransformer(img_size=SIZE, patch_size=patch, num_classes=0, **DECODER)
    taken = {name: tensor for name, tensor in vit.state_dict().items() if name.startswith(("blocks", "norm", "pos"))}
    ends = nn.ModuleDict(
        {
            "decoder_embed": nn.Linear(width, vit.embed_dim),
            "decoder_pred": nn.Linear(vit.embed_dim, channels * patch**2),
        }
    )
    return (
        {"mask_token": vit.state_dict()["cls_token"]}
        | {f"decoder_{k}": v for k, v in taken.items()}
        | ends.state_dict()
    )


def write(path: Path) -> int:
    """The file at `path`; returns the bytes of its encoder.

    Raises:
        RequestError: the disk is too small.
    """
    encoder = encoder_state()
    model = encoder | decoder_state(encoder)
    size = 3 * sum(tensor.nbytes for tensor in model.values())
    free = shutil.disk_usage(path.parent).free
    if free < 1.05 * size:
        raise RequestError(
            f"{free / 1e9:.1f} GB are free, {size / 1e9:.1f} GB needed", path.parent, "name another --folder"
        )
    print(f"{path.parent}: {free / 1e9:.1f} GB free, the file takes {size / 1e9:.2f} GB")
    moments = {
        index: {"step": 1000, "exp_avg": torch.zeros_like(tensor), "exp_avg_sq": torch.zeros_like(tensor)}
        for index, tensor in enumerate(model.values())
    }
    optimizer = {"state": moments, "param_groups": [{"lr": 1e-4, "params": list(moments)}]}
    args = argparse.Namespace(model="mae_vit_large_patch16", input_size=SIZE, blr=1.5e-4)
    torch.save({"model": model, "optimizer": optimizer, "epoch": 799, "scaler": {"scale": 65536.0}, "args": args}, path)
    return sum(tensor.nbytes for tensor in encoder.values())


def load_rsft(path: Path) -> VisionTransformer:
    """As `load_backbone` does."""
    return load_whole(find_card(NAME), SIZE, path).vit


def load_plain(path: Path, mapped: bool = False) -> VisionTransformer:
    """As usual: read everything, build the network, copy what fits."""
    with torch.serialization.safe_globals([argparse.Namespace]):
        stored = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    vit = find_card(NAME).build(SIZE)
    vit.load_state_dict(stored["model"], strict=False)
    return vit


def load_mapped(path: Path) -> VisionTransformer:
    """As usual, from a mapped file."""
    return load_plain(path, mapped=True)


WAYS = {
    "torch.load": load_plain,
    "torch.load, mmap": load_mapped,
    "rsft": load_rsft,
}


def measure(way: str, path: str) -> None:
    """Load in this process and print the cost as JSON."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, began = memory(), time.perf_counter()
    vit = WAYS[way](Path(path))
    spent, after = time.perf_counter() - began, memory()
    began = time.perf_counter()
    digest(vit.state_dict())
    hashing = time.perf_counter() - began
    own, mapped = (after[kind] - before[kind] for kind in ("RssAnon", "RssFile"))
    print(json.dumps(asdict(Cost(after["VmHWM"] - before["VmRSS"], own, mapped, spent, hashing))))


def memory() -> dict[str, int]:
    """Bytes of this process by /proc; files in a file system in memory count as mapped too."""
    lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    found = {line[0].rstrip(":"): 1024 * int(line[1]) for line in lines if line[-1] == "kB"}
    return found | {"RssFile": found["RssFile"] + found["RssShmem"]}


def cost(way: str, path: Path, rounds: int) -> Cost:
    """Medians over `rounds` fresh processes."""
    code = f"from tools.benchmarks.weights import measure; measure({way!r}, {str(path)!r})"
    runs = [
        json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
        for _ in range(rounds)
    ]
    return Cost(**{key: statistics.median(run[key] for run in runs) for key in runs[0]})


def main(words: Sequence[str] | None = None) -> None:
    """The command; fails where loading takes more memory than promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the file is made (default: that for temporary files)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"processes a way (default: {ROUNDS})")
    options = parser.parse_args(words)
    try:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            path = Path(folder) / "fmow_pretrain.pth"
            size = write(path)
            costs = {way: cost(way, path, options.rounds) for way in WAYS}
    except RsftError as error:
        parser.exit(error.exit_code, f"{error}\n")
    Console().print(table(costs, size))
    ratio = costs["rsft"].peak / size
    if ratio > LIMIT:
        parser.exit(1, f"the peak is {ratio:.2f} times the encoder, more than {LIMIT}\n")


def table(costs: dict[str, Cost], size: int) -> Table:
    """One row a way; megabytes are 10^6 bytes."""
    title = f"encoder {size / 1e6:,.0f} MB; hash of its tensors {costs['rsft'].hashing:.2f} s"
    shown = Table("way", "peak, MB", "x encoder", "own, MB", "mapped, MB", "seconds", title=title)
    for way, each in costs.items():
        sizes = [f"{number / 1e6:,.0f}" for number in (each.peak, each.anonymous, each.mapped)]
        shown.add_row(way, sizes[0], f"{each.peak / size:.2f}", *sizes[1:], f"{each.seconds:.2f}")
    return shown


if __name__ == "__main__":
    main()
