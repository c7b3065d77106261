"""Check rsft on a GPU against the CPU, measure its speed there, and print Markdown.

python -m tools.gpu_check [--device cuda] [--out FILE] [--skip timing] [--minutes 8]
python -m tools.gpu_check --device cpu --tiny

The checks compare outputs, gradients, merging, training steps and a resumed training
with the CPU in float32, without TF32. Then the program trains the quick start on
simulated chips and times training and prediction. Images and weights are random. What
cannot run is listed with the reason. The exit code is 1 if a check fails. MFU is the
share that the operations of the network have in the rate of a large matrix product in
bfloat16 on the same device. Nothing else should run on the machine. The comparison with
Hugging Face PEFT needs the package peft.
"""

from __future__ import annotations

import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import typer

from tools.errors import explained_errors
from tools.gpu_check.equality import equality_rows, failures
from tools.gpu_check.quickstart import QUICKSTART_COLUMNS, train_quickstart, write_store
from tools.gpu_check.rows import (
    EQUALITY_COLUMNS,
    EqualityRow,
    NotRunError,
    markdown_table,
    run_check,
    run_measurement,
)
from tools.gpu_check.sizes import FULL, TINY, Sizes
from tools.gpu_check.speed import (
    KINDS,
    PREDICTION_COLUMNS,
    TRAINING_COLUMNS,
    matmul_rate,
    measure_prediction,
    measure_training,
)
from tools.gpu_check.training import training_rows

SECTIONS = ("equality", "quickstart", "timing", "prediction")
PACKAGES = ("torch", "timm", "peft")


class Work(NamedTuple):
    """What to do, and where.

    Attributes:
        sizes: sizes of networks and jobs.
        device: the device to check.
        folder: folder of chips and runs.
        deadline: no measurement begins after it, in seconds of `time.monotonic`.
    """

    sizes: Sizes
    device: torch.device
    folder: Path
    deadline: float

    def before_deadline(self, measure: Callable[[], Sequence[str]]) -> Sequence[str]:
        """Run a measurement, unless the time is over.

        Args:
            measure: returns cells of a row.

        Returns:
            The cells.

        Raises:
            NotRunError: the time is over.
        """
        if time.monotonic() > self.deadline:
            raise NotRunError("the time of --minutes is over")
        return measure()


def main(
    device: Annotated[str, typer.Option(help="Device to check: cuda or cpu.")] = "cuda",
    tiny: Annotated[
        bool, typer.Option("--tiny", help="Use tiny networks, to test this program.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File that receives the Markdown (default: standard output)."
        ),
    ] = None,
    skip: Annotated[
        list[str] | None,
        typer.Option(help=f"Section to leave out: {', '.join(SECTIONS)}."),
    ] = None,
    minutes: Annotated[
        float, typer.Option(help="Minutes after which no measurement begins.")
    ] = 7.0,
) -> None:
    """Check rsft on a device against the CPU, measure its speed, and print Markdown."""
    unknown = sorted(set(skip or ()) - set(SECTIONS))
    if unknown:
        raise typer.BadParameter(
            f"no section {', '.join(unknown)}: choose from {', '.join(SECTIONS)}"
        )
    target = torch.device(device)
    with tempfile.TemporaryDirectory() as folder:
        work = Work(
            TINY if tiny else FULL,
            target,
            Path(folder),
            time.monotonic() + 60 * minutes,
        )
        text, failed = make_report(work, skip or ())
    if out is None:
        typer.echo(text)
    else:
        out.write_text(text + "\n", "utf-8")
    if failed:
        typer.echo(f"failed: {'; '.join(failed)}", err=True)
        raise typer.Exit(1)


def make_report(work: Work, skip: Sequence[str]) -> tuple[str, list[str]]:
    """Run all sections.

    Args:
        work: what to do.
        skip: names of sections to leave out.

    Returns:
        The Markdown, and the names of the checks that failed.
    """
    parts = [f"# rsft on {device_name(work.device)}", describe_machine(work.device)]
    failed = list[str]()
    titles = (
        "Equality with the CPU in float32",
        "Quick start",
        "Training",
        "Prediction",
    )
    for name, title in zip(SECTIONS, titles, strict=True):
        parts.append(f"## {title}")
        if name in skip:
            parts.append(f"not run: --skip {name}")
        elif work.device.type == "cuda" and not torch.cuda.is_available():
            parts.append("not run: this machine has no CUDA device")
        elif name == "equality":
            rows = all_equality_rows(work)
            failed = failures(rows)
            parts.append(
                markdown_table(EQUALITY_COLUMNS, [row.cells() for row in rows])
            )
        else:
            parts.append(_MEASUREMENTS[name](work))
    return "\n\n".join(parts), failed


def all_equality_rows(work: Work) -> list[EqualityRow]:
    """Run the checks of the network and those of training.

    Args:
        work: what to do.

    Returns:
        One row per check; a part that cannot start is one failed row.
    """
    rows: list[EqualityRow] = []

    def extend(part: Callable[[], Sequence[EqualityRow]]) -> float:
        rows.extend(part())
        return 0.0

    def train() -> Sequence[EqualityRow]:
        store = write_store(work.folder, work.sizes)
        return training_rows(store, work.device, ("train.batch_size=4",))

    ends = [
        run_check(name, 0.0, partial(extend, part))
        for name, part in (
            ("network", partial(equality_rows, work.sizes.equality, work.device)),
            ("training", train),
        )
    ]
    return [*rows, *(row for row in ends if row.failed)]


def quickstart_table(work: Work) -> str:
    """Train the quick start.

    Args:
        work: what to do.

    Returns:
        A Markdown table.
    """

    def train() -> Sequence[str]:
        store = write_store(work.folder, work.sizes)
        return train_quickstart(
            store, work.folder / "runs", work.device.type, work.sizes.overrides
        )

    row = run_measurement("recipes/quickstart.yaml", len(QUICKSTART_COLUMNS) - 1, train)
    return markdown_table(QUICKSTART_COLUMNS, [row])


def training_table(work: Work) -> str:
    """Time training steps.

    Args:
        work: what to do.

    Returns:
        A Markdown table.
    """
    rate = matmul_rate(work.device, 8192 if work.device.type == "cuda" else 256)
    rows = []
    for network in work.sizes.trained:
        for name, kind in KINDS.items():
            measure = partial(
                measure_training, network, kind, work.device, work.sizes.steps, rate
            )
            title = f"{network.title}, batch {network.batch}, {name}"
            rows.append(
                run_measurement(
                    title,
                    len(TRAINING_COLUMNS) - 1,
                    partial(work.before_deadline, measure),
                )
            )
    table = markdown_table(TRAINING_COLUMNS, rows)
    return f"{table}\n\nA matrix product in bfloat16 reaches {rate / 1e12:.2f} TFLOP/s."


def prediction_table(work: Work) -> str:
    """Time prediction.

    Args:
        work: what to do.

    Returns:
        A Markdown table.
    """
    network = work.sizes.predicted
    rows = []
    for compiled in (False, True):
        for bf16 in (False, True):
            measure = partial(
                measure_prediction,
                network,
                work.device,
                work.sizes.steps,
                bf16=bf16,
                compiled=compiled,
            )
            name = (
                f"{network.title}, batch {network.batch},"
                f" {'bf16' if bf16 else 'fp32'}{', compiled' * compiled}"
            )
            rows.append(
                run_measurement(
                    name,
                    len(PREDICTION_COLUMNS) - 1,
                    partial(work.before_deadline, measure),
                )
            )
    return markdown_table(PREDICTION_COLUMNS, rows)


_MEASUREMENTS: dict[str, Callable[[Work], str]] = {
    "quickstart": quickstart_table,
    "timing": training_table,
    "prediction": prediction_table,
}


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or of the processor's architecture.

    Args:
        device: the device.
    """
    if device.type == "cuda" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{device.type} ({platform.machine()})"


def describe_machine(device: torch.device) -> str:
    """Return driver and versions as a sentence.

    Args:
        device: the device.
    """
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    parts = [
        f"{time.strftime('%Y-%m-%d')}, {torch.get_num_threads()} threads",
        f"Python {platform.python_version()}",
    ]
    parts += [versions, f"CUDA {torch.version.cuda or 'none'}"]
    parts += [f"driver {_driver()}"] if device.type == "cuda" else []
    return f"{', '.join(parts)}."


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.check_output(command, text=True).splitlines()[0].strip()
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


if __name__ == "__main__":
    with explained_errors():
        typer.run(main)
