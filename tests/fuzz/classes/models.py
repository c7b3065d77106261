"""Bundles, checkpoints and archives."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from rsft.backbones.checkpoint_files import read_checkpoint, read_metadata
from rsft.errors import DataError
from rsft.models.bundle.bundle import Bundle
from rsft.training.checkpointing import (
    TrainingPosition,
    load_newest_checkpoint,
    save_checkpoint,
)
from rsft.utils.archives import extract_archive
from tests.fuzz.classes.stores import copy_of
from tests.fuzz.mutate import (
    Mutator,
    change_value,
    mutate_bytes,
    mutate_json,
    mutate_safetensors,
    mutate_text,
    mutate_zip,
)
from tests.fuzz.target import Target
from tests.helpers.archive_files import make_rar, make_tar, make_zip

FILES = {
    "train/a/1.png": b"x" * 300,
    "train/b/2.png": b"y" * 300,
    "labels.txt": b"1 a\n2 b\n",
}


_build_bundle = copy_of("run_average/bundle", "bundle")


def _read_bundle(folder: Path) -> None:
    bundle = Bundle.load(folder / "bundle")
    _ = bundle.members, bundle.group_indices  # computed when they are read
    pixels = np.random.default_rng(0).integers(
        0, 255, (48, 48, len(bundle.contract.bands)), np.uint8
    )
    with suppress(DataError):  # chips of another unit are refused; arrays have no name
        bundle.contract.to_image(pixels, "uint8")


def reseal(change: Mutator) -> Mutator:
    """Return a mutator of bundle.json whose hash fits, as an attacker would write
    it."""

    def mutate(rng: Random, data: bytes) -> bytes:
        content: Any = json.loads(change(rng, data))
        if isinstance(content, dict):
            content.pop("sha256", None)
            text = json.dumps(content, sort_keys=True, separators=(",", ":"))
            content["sha256"] = hashlib.sha256(text.encode()).hexdigest()
        return json.dumps(content).encode()

    return mutate


def _change_json(rng: Random, data: bytes) -> bytes:
    return json.dumps(change_value(rng, json.loads(data))).encode()


def _read_resealed_bundle(folder: Path) -> None:
    """Load a bundle whose index states the hashes of its files, whatever they
    contain."""
    path = folder / "bundle/bundle.json"
    original = path.read_bytes()
    content = json.loads(original)
    for name in content["files"]:
        content["files"][name] = hashlib.sha256(
            (folder / "bundle" / name).read_bytes()
        ).hexdigest()
    path.write_bytes(
        reseal(lambda rng, data: data)(Random(0), json.dumps(content).encode())
    )
    try:
        _read_bundle(folder)
    finally:
        path.write_bytes(original)


def _build_weights(suffix: str, folder: Path) -> None:
    tensors = {
        "blocks.0.weight": torch.ones(4, 4),
        "head.bias": torch.zeros(3, dtype=torch.float16),
    }
    if suffix == ".safetensors":
        save_file(tensors, folder / "w.safetensors", {"format": "pt", "backbone": "x"})
    else:
        torch.save(
            {"model": tensors, "epoch": 3, "args": {"lr": 0.1}}, folder / "w.pth"
        )


def _read_weights(suffix: str, folder: Path) -> None:
    tensors = read_checkpoint(folder / f"w{suffix}")
    for tensor in tensors.values():
        tensor.float().sum()
    read_metadata(folder / f"w{suffix}")


def _build_checkpoint(folder: Path) -> None:
    state = {
        "model": {"weight": torch.ones(4, 4)},
        "optimizer": [{"lr": 0.1, "betas": (0.9, 0.99)}],
        "text": "x",
    }
    save_checkpoint(folder, TrainingPosition(2, 3), state)


def _read_checkpoint(folder: Path) -> None:
    load_newest_checkpoint(folder)


def mutate_tar(rng: Random, data: bytes) -> bytes:
    """Change the headers of a .tar, with a right checksum, or bytes."""
    if rng.random() < 0.3:
        return mutate_bytes(rng, data)
    target = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(data)) as source,
        tarfile.open(fileobj=target, mode="w:") as archive,
    ):
        members = source.getmembers()
        chosen = rng.randrange(len(members))
        for number, member in enumerate(members):
            content = source.extractfile(member)
            if number == chosen:
                _change_member(rng, member)
            archive.addfile(member, content)
    return target.getvalue()


def _change_member(rng: Random, member: tarfile.TarInfo) -> None:
    names = [
        "../x",
        "/x",
        "a/../../x",
        "x" * 300,
        "a/" * 1200 + "x",
        "LABELS.TXT",
        "labels.txt/x",
        "C:/x",
    ]
    names += ["é", "e\u0301", ".", ""]
    change = rng.randrange(4)
    if change < 2:
        member.name = rng.choice(names)
    elif change == 2:
        member.type = rng.choice(
            (
                tarfile.SYMTYPE,
                tarfile.LNKTYPE,
                tarfile.FIFOTYPE,
                tarfile.CHRTYPE,
                tarfile.DIRTYPE,
                b"Z",
            )
        )
        member.linkname = rng.choice(("/etc/passwd", "../../x", "labels.txt"))
    else:
        member.pax_headers = {
            rng.choice(("path", "size", "linkpath", "x")): rng.choice(
                (*names, "-1", "9" * 30)
            )
        }


BUNDLE = {
    "bundle.json": mutate_json,
    "recipe.yaml": mutate_text,
    "weights.safetensors": mutate_bytes,
}
TENSORS = dict.fromkeys(
    ("bundle/weights.safetensors", "bundle/confidence.safetensors"), mutate_safetensors
)
ARCHIVES: list[tuple[str, Callable[..., Path], Mutator]] = [
    ("zip", make_zip, mutate_zip(mutate_bytes)),
    ("tar", make_tar, mutate_tar),
    ("tgz", partial(make_tar, mode="w:gz"), mutate_bytes),
    ("rar", make_rar, mutate_bytes),
]


def _archive(name: str, make: Callable[..., Path], mutator: Mutator) -> Target:
    def read(folder: Path) -> None:
        extract_archive(folder / f"a.{name}", folder / "out")

    build = lambda folder: make(folder / f"a.{name}", FILES)  # noqa: E731
    return Target(
        f"archives_{name}", build, {f"a.{name}": mutator}, read, outputs=("out",)
    )


TARGETS = [
    Target(
        "bundles",
        _build_bundle,
        {f"bundle/{name}": mutator for name, mutator in BUNDLE.items()},
        _read_bundle,
    ),
    Target(
        "bundles_resealed",
        _build_bundle,
        {"bundle/bundle.json": reseal(_change_json)},
        _read_bundle,
    ),
    Target("bundle_weights", _build_bundle, TENSORS, _read_resealed_bundle),
    *(
        Target(
            f"weights_{suffix[1:]}",
            partial(_build_weights, suffix),
            {f"w{suffix}": mutator},
            partial(_read_weights, suffix),
        )
        for suffix, mutator in (
            (".pth", mutate_zip(mutate_bytes)),
            (".safetensors", mutate_safetensors),
        )
    ),
    Target(
        "checkpoints",
        _build_checkpoint,
        {"00002-0000003.ckpt": mutate_zip(mutate_bytes)},
        _read_checkpoint,
        named_by="folder",
    ),
    *(_archive(*row) for row in ARCHIVES),
]
