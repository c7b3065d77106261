"""Times the engines of `rsft predict` and prints a table in Markdown.

python -m tools.benchmarks.predict [--model b|s|tiny] [--rows eager,openvino-bf16] [--rounds 2] [--steps 5]
    [--chips 2048]

Weights are random; the classifier is one as a bundle makes it: LoRA at all sites, merged. A row runs in a process of
its own, and the rows take turns, A B A B, so that what slows the machine slows all of them. "bare" is the loop of the
engine alone over 16 images that lie ready, before and after the job in the same process; "predict" is the whole job on
PNG chips, from the first that is read to the table that is written, without the time to open the engine, which has a
column of its own. The rows of int8 are calibrated on noise: their speed counts, their accuracy does not. An engine
whose export differs from PyTorch by more than is allowed is told and left out. Eager is PyTorch as it comes; the other
rows, "torch" too, keep the memory that they free, as the command does. Memory is the peak of a process that classifies
so many small chips with the embedded network. Nothing else should run on the machine. Needs the extras onnx and
openvino.
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

INT8 = ("openvino-int8", "openvino-int8-sixth", "openvino-int8-third")
"""With no block in bf16, a sixth and a third of them, as an export may have them."""

ROWS = ("eager", "torch", "torch-bf16", "onnx", "onnx-int8", "openvino", "openvino-bf16", *INT8)
WANTED = {"torch-bf16": 2.3, "openvino-int8": 3.8}
"""Times as fast as eager float32; the best engine of a precision is meant."""

CHIPS = {"b": 512, "s": 2048, "tiny": 20_000}
"""A job has a start and an end, of half a second together, which are not its speed."""

WANTED_SHARE = 0.95
"""Of the bare loop's speed, for the whole job."""

Measured = dict[str, dict[str, list[float]]]


def main(
    model: Annotated[str, typer.Option(help="b: ViT-B/16, s: ViT-S/16, tiny: the embedded one.")] = "b",
    rows: Annotated[str, typer.Option(help="Rows by name, with commas between.")] = ",".join(ROWS),
    rounds: Annotated[int, typer.Option(help="Processes of a row.")] = 2,
    steps: Annotated[int, typer.Option(help="Passes over 16 images, before and after the job.")] = 5,
    chips: Annotated[int | None, typer.Option(help="Chips of a job; by the model if left out.")] = None,
    threads: Annotated[int, typer.Option(help="Threads of every engine.")] = 2,
    memory: Annotated[
        str, typer.Option(help="Chips of the jobs whose memory is taken; empty for none.")
    ] = "1000,20000",
) -> None:
    """Measure and print."""
    chosen, chips = with_reference(rows.split(",")), chips or CHIPS[model]
    with tempfile.TemporaryDirectory() as place:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "RSFT_WEIGHTS": place, "XDG_CACHE_HOME": place}
        call(["make", place, model, str(chips)], environment)
        measured: Measured = {row: defaultdict(list) for row in chosen}
        for _ in range(rounds):
            for row in chosen:
                told = call(["time", place, row, str(steps)], environment)
                for key, value in told.items():
                    measured[row][key] += value if isinstance(value, list) else [value]
                if told:
                    print(f"{row}: {statistics.median(measured[row]['bare']):.1f} images/s", file=sys.stderr)
        print(f"{model}, {threads} threads, medians of {rounds} x {steps} passes; jobs of {chips} chips\n")
        print(table(measured))
        counts = [int(word) for word in memory.split(",") if word]
        peaks = {count: call(["memory", place, str(count)], environment)["peak"] for count in counts}
    for count, peak in peaks.items():
        print(f"\npeak memory at {count:,} chips: {peak:,.0f} MB")


def call(arguments: list[str], environment: dict[str, str]) -> dict[str, float | list[float]]:
    """What tools/benchmarks/predict_row.py prints."""
    command = [sys.executable, "-m", "tools.benchmarks.predict_row", *arguments]
    told: dict[str, float | list[float]] = json.loads(
        subprocess.check_output(command, env=environment, cwd=Path(__file__).parents[2]).splitlines()[-1]
    )
    return told


def with_reference(rows: list[str]) -> list[str]:
    """These rows and the one that they are compared with, in the order of the table.

    Raises:
        typer.BadParameter: a name that is no row's.
    """
    unknown = sorted(set(rows) - set(ROWS))
    if unknown:
        raise typer.BadParameter(f"no row {', '.join(unknown)}: choose from {', '.join(ROWS)}")
    return [row for row in ROWS if row in {"eager", *rows}]


def table(measured: Measured) -> str:
    """In Markdown, one line a row: images a second, ratios, seconds to open, largest difference of a logit."""
    middle = {row: {key: statistics.median(own) for key, own in values.items()} for row, values in measured.items()}
    middle = {row: found for row, found in middle.items() if found}
    lines = [
        "| | bare, images/s | x eager | predict, chips/s | of bare | opens in s | largest difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for row, found in middle.items():
        ratio = f"{found['bare'] / middle['eager']['bare']:.2f}"
        wanted = f" (wanted: {WANTED[row]})" if row in WANTED else ""
        share = f"{found['predict'] / found['bare']:.2f} (wanted: {WANTED_SHARE})"
        cells = [row, f"{found['bare']:.1f}", ratio + wanted, f"{found['predict']:.1f}", share, f"{found['open']:.1f}"]
        lines.append(f"| {' | '.join(cells)} | {found['difference']:.2g} |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
