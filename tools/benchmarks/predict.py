"""Time the engines of `rsft predict`, and print a table in Markdown.

python -m tools.benchmarks.predict [--model b|s|tiny] [--rows eager,openvino-bf16]
[--rounds 2] [--steps 5]
    [--chips 2048]

Weights are random, and the classifier is the one of a bundle with LoRA at all sites,
merged. Each row runs in a process of its own. The rows take turns (A B A B), so that a
slow moment of the machine affects all of them.

The column "bare" is the speed of the engine alone on 16 prepared images, measured
before and after the job in the same process. The column "predict" is the speed of the
whole job on PNG chips, from the first chip read to the written table, without the time
to load the engine, which has its own column. int8 is calibrated on noise: its speed
counts, its accuracy does not. An engine whose export differs too much from PyTorch is
reported and left out.

"eager" is PyTorch with the default allocator. The other rows, "torch" included, retain
freed memory as the command does. Memory is the peak of a process that classifies small
chips with the embedded network. Nothing else should run on the machine. The extras onnx
and openvino are needed.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer

from tools.errors import explained_errors

INT8 = ("openvino-int8", "openvino-int8-sixth", "openvino-int8-third")
"""Without blocks in bf16, with a sixth and with a third of them."""

ROWS = (
    "eager",
    "torch",
    "torch-bf16",
    "onnx",
    "onnx-int8",
    "openvino",
    "openvino-bf16",
    *INT8,
)
TARGETS = {"torch-bf16": 2.3, "openvino-int8": 3.8}
"""Target speedup over eager float32, for the fastest engine of a number type."""

CHIPS = {"b": 512, "s": 2048, "tiny": 20_000}
"""Chips of a job. It must be long, because its start and end take half a second that
say nothing about its speed."""

TARGET_SHARE = 0.95
"""Target speed of the whole job, as a share of the engine's."""

Measured = dict[str, dict[str, list[float]]]


def main(
    model: Annotated[
        str, typer.Option(help="b: ViT-B/16, s: ViT-S/16, tiny: the embedded one.")
    ] = "b",
    rows: Annotated[str, typer.Option(help="Rows, separated by commas.")] = ",".join(
        ROWS
    ),
    rounds: Annotated[int, typer.Option(help="Processes per row.")] = 2,
    steps: Annotated[
        int,
        typer.Option(
            help="Calls of the engine on 16 images, before and after the job."
        ),
    ] = 5,
    chips: Annotated[
        int | None, typer.Option(help="Chips per job (default: depends on the model).")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of each engine.")] = 2,
    memory: Annotated[
        str,
        typer.Option(
            help="Chips of the jobs whose memory is measured, separated by commas."
        ),
    ] = "1000,20000",
) -> None:
    """Measure all rows and print the table."""
    chosen = with_reference(rows.split(","))
    chips = chips or CHIPS[model]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "OMP_NUM_THREADS": str(threads),
            "RSFT_WEIGHTS": folder,
            "XDG_CACHE_HOME": folder,
        }
        call(["make", folder, model, str(chips)], environment)
        measured: Measured = {row: defaultdict(list) for row in chosen}
        for _ in range(rounds):
            for row in chosen:
                result = call(["time", folder, row, str(steps)], environment)
                for key, value in result.items():
                    measured[row][key] += value if isinstance(value, list) else [value]
                if result:
                    print(
                        f"{row}: {statistics.median(measured[row]['bare']):.1f}"
                        " images/s",
                        file=sys.stderr,
                    )
        print(
            f"{model}, {threads} threads, medians of {rounds} x {steps} passes; jobs of"
            f" {chips} chips\n"
        )
        print(table(measured))
        counts = [int(word) for word in memory.split(",") if word]
        peaks = {
            count: call(["memory", folder, str(count)], environment)["peak"]
            for count in counts
        }
    for count, peak in peaks.items():
        print(f"\npeak memory at {count:,} chips: {peak:,.0f} MB")


def call(
    arguments: list[str], environment: dict[str, str]
) -> dict[str, float | list[float]]:
    """Return what tools/benchmarks/predict_row.py prints.

    Args:
        arguments: command line of the process.
        environment: its environment variables.
    """
    command = [sys.executable, "-m", "tools.benchmarks.predict_row", *arguments]
    result: dict[str, float | list[float]] = json.loads(
        subprocess.check_output(
            command, env=environment, cwd=Path(__file__).parents[2]
        ).splitlines()[-1]
    )
    return result


def with_reference(rows: list[str]) -> list[str]:
    """Return rows in the order of the table, with the one that they are compared with.

    Raises:
        typer.BadParameter: an unknown row.
    """
    unknown = sorted(set(rows) - set(ROWS))
    if unknown:
        raise typer.BadParameter(
            f"no row {', '.join(unknown)}: choose from {', '.join(ROWS)}"
        )
    return [row for row in ROWS if row in {"eager", *rows}]


def table(measured: Measured) -> str:
    """Return the table in Markdown: speeds, ratios, seconds to load, and the largest difference of a logit."""
    middle = {
        row: {key: statistics.median(numbers) for key, numbers in values.items()}
        for row, values in measured.items()
    }
    middle = {row: medians for row, medians in middle.items() if medians}
    lines = [
        (
            "| | bare, images/s | x eager | predict, chips/s | of bare | opens in s |"
            " largest difference |"
        ),
        "|---|---|---|---|---|---|---|",
    ]
    for row, medians in middle.items():
        ratio = f"{medians['bare'] / middle['eager']['bare']:.2f}"
        target = f" (target: {TARGETS[row]})" if row in TARGETS else ""
        share = f"{medians['predict'] / medians['bare']:.2f} (target: {TARGET_SHARE})"
        cells = [
            row,
            f"{medians['bare']:.1f}",
            ratio + target,
            f"{medians['predict']:.1f}",
            share,
            f"{medians['open']:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} | {medians['difference']:.2g} |")
    return "\n".join(lines)


if __name__ == "__main__":
    with explained_errors():
        typer.run(main)
