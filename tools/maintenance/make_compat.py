"""Write the artifacts that later versions must be able to open.

    python -m tools.maintenance.make_compat [--out tests/compat]

The script runs the commands of the quick start at a small size, with the recipes in
`tools/maintenance/compat/`. The folder OUT/<major>.<minor>/ gets a chip store, a
finished run, an average of two runs, a stopped run with the result of the same run
without a stop, sweeps, recipes with every key, and adapters. The script removes
everything that identifies the machine. `tests/test_compat.py` opens every such folder.
Takes two minutes on one core; requires Ray and Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import torch
import yaml
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

import rsft
from rsft.peft import METHODS, AdaptFormer, CompositeMethod, LoRA, attach, export_peft
from rsft.recipe.load import dump_recipe, load_recipe, recipe_keys

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).parent / "compat"
CHIP_SIZE = 48
"""Chip size in pixels. Chips are center crops of simulated ones."""

CHIPS = {
    "train": {"cargo": 12, "fishing": 8, "tanker": 4},
    "val": {"cargo": 9, "fishing": 9, "tanker": 9},
    "test": {"cargo": 4, "fishing": 4, "tanker": 4},
}
MODULATED_METHODS = ("lora", "lotr", "adapter", "adaptformer", "lora+adaptformer")
"""Methods that have one scale per site."""

NETWORK: dict[str, Any] = {
    "img_size": 16,
    "patch_size": 8,
    "embed_dim": 12,
    "depth": 2,
    "num_heads": 2,
    "num_classes": 0,
}
"""Arguments of timm's VisionTransformer for the network of the adapters."""

MAX_FILE_BYTES = 1_000_000

MACHINE = {
    "machine": "Linux",
    "hardware": {
        "cpu": "x86-64",
        "cores": 2,
        "threads": 1,
        "memory_gb": 8.0,
        "gpus": [],
    },
}
"""Values that replace the description of the machine in run.json."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the folder of this version and print its size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "tests/compat",
        help="parent folder (%(default)s)",
    )
    out: Path = parser.parse_args(arguments).out / ".".join(
        rsft.__version__.split(".")[:2]
    )
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary).resolve()
        make_artifacts(work)
        anonymize(work)
        check_anonymous(work)
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(work, out)
    files = [path for path in out.rglob("*") if path.is_file()]
    print(
        f"{out}: {len(files)} files,"
        f" {sum(path.stat().st_size for path in files) / 1e6:.2f} MB"
    )
    return 0


def make_artifacts(work: Path) -> None:
    """Write all artifacts into an empty folder.

    Args:
        work: working directory of all commands.
    """
    make_store(work)
    for name, folder in {
        "ships": "run",
        "average": "run_average",
        "stopped": "unbroken",
    }.items():
        call(work, "finetune", SOURCE / f"{name}.yaml", "--runs", work / "runs")
        (work / "runs" / name / "001").rename(work / folder)
    make_stopped(work)
    for run in ("run", "run_average"):
        call(
            work,
            "predict",
            run,
            "store/chips/test",
            "-o",
            f"{run}_predictions.csv",
            "--engine",
            "torch",
        )
    make_sweeps(work)
    make_recipes(work / "recipes")
    make_adapters(work / "adapters")
    readme = (SOURCE / "README.md").read_text()
    (work / "README.md").write_text(
        readme.format(version=rsft.__version__, commit=last_commit(), side=CHIP_SIZE)
    )


def make_store(work: Path) -> None:
    """Crop simulated chips, and prepare them as a chip store.

    Args:
        work: working directory of all commands.
    """
    call(work, "prepare", "demo", "--root", "demo")
    for split, counts in CHIPS.items():
        for name, count in counts.items():
            folder = work / "chips" / split / name
            folder.mkdir(parents=True)
            for path in sorted((work / "demo/chips" / split / name).iterdir())[:count]:
                image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
                assert image is not None
                top, left = ((side - CHIP_SIZE) // 2 for side in image.shape[:2])
                cv2.imwrite(
                    str(folder / path.name),
                    image[top : top + CHIP_SIZE, left : left + CHIP_SIZE],
                )
    call(work, "prepare", "folder", "chips", "--root", "store")
    call(work, "audit", "store")
    shutil.rmtree(work / "demo")
    shutil.rmtree(work / "chips")
    shutil.rmtree(work / "store/contact", ignore_errors=True)


def make_stopped(work: Path) -> None:
    """Stop a run in its third epoch within an accumulated step; save the result of the same run without a stop."""
    expected = work / "run_stopped_expected"
    expected.mkdir()
    for name in ("metrics.csv", "modulator.csv", "bundle/weights.safetensors"):
        shutil.copy(work / "unbroken" / name, expected)
    shutil.rmtree(work / "unbroken")
    folder = train_and_stop(
        work, SOURCE / "stopped.yaml", work / "runs", epoch=2, step=3
    )
    folder.rename(work / "run_stopped")
    shutil.rmtree(work / "runs")


def train_and_stop(
    work: Path, recipe: Path, runs: Path, *, epoch: int, step: int
) -> Path:
    """Train with two batches per optimizer step, stop by SIGTERM between the two, and return the run folder.

    Args:
        work: working directory of the command.
        recipe: path of the recipe.
        runs: folder of the runs.
        epoch: epoch to stop in, from 0.
        step: batch after which the signal is sent, from 1.

    Raises:
        RuntimeError: the signal came too late in all attempts.
    """
    name = load_recipe(recipe).name
    for attempt in range(20):  # a fast run is a batch further when the signal arrives
        shutil.rmtree(runs / name, ignore_errors=True)
        arguments = ["finetune", recipe, "--runs", runs, "--json"]
        with start_process(work, *arguments, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for line in process.stdout:
                event = json.loads(line)
                if event["event"] == "step" and (event["epoch"], event["step"]) == (
                    epoch,
                    step - attempt % 2,
                ):
                    process.send_signal(signal.SIGTERM)
        folder = runs / name / "001"
        metadata = json.loads((folder / "run.json").read_text())
        if (
            metadata["status"] == "interrupted"
            and metadata["position"][0] == epoch
            and metadata["position"][1] % 2
        ):
            for old in sorted((folder / "checkpoints").glob("*.ckpt"))[:-1]:
                old.unlink()
            return folder
    raise RuntimeError(
        f"{recipe} did not stop within an accumulated step in 20 attempts"
    )


def make_sweeps(work: Path) -> None:
    """Finish two sweeps, then delete the outcome of one trial and stop a new run of it.

    Args:
        work: working directory of all commands.
    """
    shutil.copytree(SOURCE / "sweep", work / "sweep")
    for name in ("finished", "unfinished"):
        call(work, "sweep", f"sweep/{name}.yaml", "--runs", "sweep", "--jobs", 1)
    trial = max(
        (work / "sweep/sweeps/unfinished/trials").iterdir(),
        key=lambda path: path.stat().st_mtime_ns,
    )
    (trial / "trial.json").unlink()
    train_and_stop(work, trial / "recipe.yaml", trial, epoch=1, step=3)


def make_recipes(folder: Path) -> None:
    """Copy the recipes, and write their resolved values to values.json.

    Args:
        folder: folder of the copies.

    Raises:
        RuntimeError: a key of the schema is in no recipe.
    """
    shutil.copytree(SOURCE / "recipes", folder)
    overrides = yaml.safe_load((folder / "overrides.yaml").read_text())
    files = [path for path in sorted(folder.glob("*.yaml")) if path.stem != "overrides"]
    cases = {path.name: [path.name] for path in files} | overrides
    values: dict[str, dict[str, Any]] = {}
    used: set[str] = set()
    for name, (file, *changes) in cases.items():
        values[name] = flatten(
            yaml.safe_load(dump_recipe(load_recipe(folder / file, changes)))
        )
        used |= set(flatten(yaml.safe_load((folder / file).read_text())))
        for key, _, value in (change.partition("=") for change in changes):
            used |= set(flatten({key: yaml.safe_load(value)}))
    missing = set(recipe_keys()) - used
    if missing:
        raise RuntimeError(
            f"no recipe in {SOURCE} has the keys {', '.join(sorted(missing))}"
        )
    (folder / "values.json").write_text(
        json.dumps(values, indent=1, sort_keys=True) + "\n"
    )


def flatten(document: dict[str, Any]) -> dict[str, Any]:
    """Return values by dotted key; a section that is off has the value None.

    Args:
        document: values by section and key.

    Returns:
        Values by dotted key.
    """
    rows: dict[str, Any] = {}
    for name, value in document.items():
        is_section = isinstance(value, dict)
        rows |= (
            {f"{name}.{key}": item for key, item in value.items()}
            if is_section
            else {name: value}
        )
    return rows


def make_adapters(folder: Path) -> None:
    """Save one adapter per method, its network, an image, and the tokens of the image.

    Args:
        folder: folder of the files.
    """
    folder.mkdir()
    torch.manual_seed(0)
    plain = VisionTransformer(**NETWORK)
    image = torch.rand(1, 3, 16, 16)
    save_file(plain.state_dict() | {"image": image}, folder / "network.safetensors")
    tokens = {}
    kinds = {name: METHODS[name] for name in METHODS} | {
        CompositeMethod.name: CompositeMethod
    }
    for name, kind in kinds.items():
        network = VisionTransformer(**NETWORK)
        network.load_state_dict(plain.state_dict())
        method = (
            kind((LoRA(positions="qv"), AdaptFormer(dim=2)))
            if kind is CompositeMethod
            else kind()
        )
        adapted = attach(network, method, learn_scales=name in MODULATED_METHODS)
        with torch.no_grad():
            for parameter in [*adapted.theta, *adapted.gamma]:
                parameter.add_(0.1 * torch.randn_like(parameter))
            tokens[name] = adapted.forward_features(image)
        adapted.save(folder / f"{name}.safetensors")
        if name == "lora":
            export_peft(adapted, folder / "peft")
    save_file(tokens, folder / "tokens.safetensors")


def anonymize(work: Path) -> None:
    """Make paths relative; remove names of the machine, locks, caches and large reports.

    Args:
        work: working directory of all commands.
    """
    shutil.rmtree(work / "store/.cache", ignore_errors=True)
    for path in sorted(work.rglob("*")):
        if path.name in (".lock", "lock", "report.html", "errors.txt"):
            path.unlink()
        elif path.name.startswith("events.out.tfevents."):
            stamp = path.name.removeprefix("events.out.tfevents.")[:17]
            path.rename(path.with_name(f"events.out.tfevents.{stamp}.host.1"))
        elif path.suffix in (".json", ".csv", ".md", ".yaml"):
            text = path.read_text()
            plain = (
                text.replace(f"{work}/", "")
                .replace(str(work), ".")
                .replace(f"{SOURCE}/", "")
            )
            if path.name == "run.json":
                plain = json.dumps(json.loads(plain) | MACHINE, indent=1)
            if plain != text:
                path.write_text(plain)
    # write tables and figures again, with relative paths
    for name in (
        "finished",
        "unfinished",
    ):
        for path in (work / "sweep/sweeps" / name).glob("*.*"):
            path.unlink()
        call(work, "sweep", f"sweep/{name}.yaml", "--runs", "sweep", "--report")
        for path in (work / "sweep/sweeps" / name).glob("*.svg"):
            path.unlink()


def check_anonymous(work: Path) -> None:
    """Check that no file is large or contains a name of this machine.

    Raises:
        RuntimeError: a file is, or does.
    """
    words = [
        str(word).encode() for word in (work, ROOT, Path.home(), socket.gethostname())
    ]
    for path in work.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            if len(content) > MAX_FILE_BYTES or any(
                word in content for word in words if len(word) > 5
            ):
                raise RuntimeError(
                    f"{path} ({len(content):,} bytes) is too large or contains a name"
                    " of this machine"
                )


def call(work: Path, *arguments: object) -> None:
    """Run rsft in a folder, and wait for it."""
    command = [sys.executable, "-m", "rsft", *map(str, arguments)]
    subprocess.run(command, cwd=work, env=environment(), check=True)


def start_process(
    work: Path, *arguments: object, **options: Any
) -> subprocess.Popen[str]:
    """Start rsft in a folder.

    Args:
        work: working directory.
        arguments: arguments of the command line.
        options: arguments of Popen.

    Returns:
        The running process.
    """
    command = [sys.executable, "-m", "rsft", *map(str, arguments)]
    return subprocess.Popen(command, cwd=work, env=environment(), text=True, **options)


def environment() -> dict[str, str]:
    """Return the environment of this process, with this code on the path and one thread.

    Returns:
        Values by variable.
    """
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }


def last_commit() -> str:
    """Return the last commit that changed the package."""
    command = [
        "git",
        "-C",
        str(ROOT),
        "log",
        "-1",
        "--format=%h",
        "--abbrev=12",
        "--",
        "rsft",
    ]
    return subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
