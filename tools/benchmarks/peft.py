"""Time training steps of rsft.peft and of Hugging Face PEFT, and print a Markdown table.

    python -m tools.benchmarks.peft [--model b] [--rows ours,joint] [--steps 7]
    [--rounds 2] [--batch 8] [--threads 2]

Images and weights are random. Each row runs in its own process. The rows alternate (A B
A B), so that other load on the machine affects all of them. A selected row also runs
the rows that it is compared with. A time is the median of all steps after two warm-up
steps. Memory is the peak of resident memory during the steps (VmHWM, reset before them)
minus the memory before the model was built, minus the model's float32 weights. The
ceiling is the time of the blocks' large matrix products (torch.mm), twice those of a
forward pass. Nothing else should run on the machine. Requires the package peft.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import typer

from tools.errors import explained_errors


class TableRow(NamedTuple):
    """A row of the table and the rows that it is compared with.

    Attributes:
        title: printed name.
        time: row whose time is the base of the time ratio.
        memory: row whose memory is the base of the memory ratio.
        ceiling: row of the matrix products alone.
        steps: steps per epoch, as a share of those of the row `time`. It is below 1 if
            chips of the meta subset are not used in inner steps.
    """

    title: str
    time: str | None = None
    memory: str | None = None
    ceiling: str | None = None
    steps: float = 1.0

    @property
    def references(self) -> set[str]:
        """Names of the rows that this row is compared with."""
        return {
            row for row in (self.time, self.memory, self.ceiling) if row is not None
        }


ROWS = {
    "products": TableRow("matrix products, float32"),
    "products-bf16": TableRow("matrix products, bfloat16"),
    "bare": TableRow("bare model, forward only"),
    "merged": TableRow("merged LoRA, forward only", "bare", "bare"),
    "peft": TableRow("Hugging Face PEFT, float32", ceiling="products"),
    "ours": TableRow("rsft.peft, float32", "peft", "peft", "products"),
    "modulated": TableRow("with modulator", "peft", "peft", "products"),
    "sequential": TableRow(
        "with the module at Out after the projection", "ours", "ours", "products"
    ),
    "peft-bf16": TableRow("Hugging Face PEFT, bfloat16", ceiling="products-bf16"),
    "ours-bf16": TableRow(
        "rsft.peft, bfloat16", "peft-bf16", "peft-bf16", "products-bf16"
    ),
    "checkpointed": TableRow("checkpointed, float32", "ours", "peft", "products"),
    "last-3": TableRow(
        "last 3 blocks, cached features of the frozen blocks", "ours", "peft"
    ),
    "joint": TableRow(
        "MetaPEFT, joint, 1 meta row per 8; ratio per epoch",
        "ours",
        "peft",
        steps=8 / 9,
    ),
}


class Measurements(NamedTuple):
    """Seconds of every step, and MB above the bare model of every process."""

    times: list[float]
    above: list[float]


def main(
    model: Annotated[
        str,
        typer.Option(
            help="b: ViT-B/16, l: ViT-L/16, small, tiny: networks for small chips."
        ),
    ] = "b",
    rows: Annotated[
        str, typer.Option(help="Names of rows, separated by commas.")
    ] = ",".join(ROWS),
    steps: Annotated[int, typer.Option(help="Timed steps per process.")] = 7,
    rounds: Annotated[int, typer.Option(help="Processes per row.")] = 2,
    batch: Annotated[int, typer.Option(help="Images per step.")] = 8,
    threads: Annotated[int, typer.Option(help="CPU threads of torch.")] = 2,
) -> None:
    """Time training steps of rsft.peft and of Hugging Face PEFT, and print a Markdown table."""
    selected = with_references(rows.split(","))
    measured = {row: Measurements([], []) for row in selected}
    for _ in range(rounds):
        for row in selected:
            command = [
                sys.executable,
                "-m",
                "tools.benchmarks.peft_row",
                row,
                model,
                str(steps),
                str(batch),
            ]
            environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
            result = json.loads(
                subprocess.check_output(command, env=environment).splitlines()[-1]
            )
            measured[row].times.extend(result["times"])
            measured[row].above.append(result["above"])
            print(f"{row}: {statistics.median(result['times']):.3f} s", file=sys.stderr)
    print(
        f"model {model}, batch {batch}, {threads} threads, median of {rounds} x {steps}"
        " steps\n"
    )
    print(measurements_markdown(measured))


def with_references(rows: Sequence[str]) -> list[str]:
    """Return these rows and the rows that they are compared with, in the order of the table.

    Args:
        rows: names of rows.

    Returns:
        Names of rows.

    Raises:
        typer.BadParameter: a row does not exist.
    """
    unknown = sorted(set(rows) - set(ROWS))
    if unknown:
        raise typer.BadParameter(
            f"no row {', '.join(unknown)}: choose from {', '.join(ROWS)}"
        )
    selected = set(rows).union(*(ROWS[row].references for row in rows))
    return [row for row in ROWS if row in selected]


def measurements_markdown(measured: dict[str, Measurements]) -> str:
    """Return a table with one line per row: seconds, MB, and their ratios to other rows.

    Args:
        measured: measurements by row.
    """
    seconds = {row: statistics.median(values.times) for row, values in measured.items()}
    above = {row: statistics.median(values.above) for row, values in measured.items()}
    lines = [
        (
            "| | s per step | ratio | to | MB above the model | ratio | to | of the"
            " ceiling |"
        ),
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in measured:
        row = ROWS[name]
        cells = [
            row.title,
            f"{seconds[name]:.3f}",
            *ratio_cells(seconds, name, row.time, row.steps),
            f"{above[name]:,.0f}",
            *ratio_cells(above, name, row.memory),
        ]
        cells.append(
            f"{seconds[row.ceiling] / seconds[name]:.2f}"
            if row.ceiling in seconds
            else ""
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def ratio_cells(
    values: dict[str, float], row: str, base: str | None, steps: float = 1.0
) -> tuple[str, str]:
    """Return the ratio of a row to its base row.

    Args:
        values: values by row.
        row: name of the row.
        base: name of the base row; None for no comparison.
        steps: factor of the ratio.

    Returns:
        The ratio and the name of the base row; two empty texts if the base row was not
        measured.
    """
    if base in values:
        return (f"{steps * values[row] / values[base]:.3f}", base)
    return ("", "")


if __name__ == "__main__":
    with explained_errors():
        typer.run(main)
