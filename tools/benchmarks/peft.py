"""Times training steps of rsft.peft beside Hugging Face PEFT's and prints a table in Markdown.

python -m tools.benchmarks.peft [--model b|l] [--rows ours,joint] [--steps 7] [--rounds 2] [--batch 8] [--threads 2]

Images and weights are random. Each row runs in a process of its own, and the rows take turns, A B A B, so that what
slows the machine slows all of them; a row brings along what it is compared with. A time is the median of all its steps
after two to warm up. Memory is the peak of resident memory in those steps (VmHWM, reset before them) less that before
the model was built and less the model's own weights in float32. The ceiling is the time of the blocks' large matrix
products alone (torch.mm), twice those of a forward pass. Nothing else should run on the machine. Needs peft (pip).
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


class Compared(NamedTuple):
    """What a row is, which rows its time, its memory and its share of the ceiling refer to, and its steps in an epoch.

    The steps are a share of those of the row that its time refers to: what is held out for the outer loop is no
    inner row.
    """

    what: str
    time: str | None = None
    memory: str | None = None
    ceiling: str | None = None
    steps: float = 1.0


ROWS = {
    "products": Compared("matrix products, float32"),
    "products-bf16": Compared("matrix products, bfloat16"),
    "bare": Compared("bare model, forward only"),
    "merged": Compared("merged LoRA, forward only", "bare", "bare"),
    "peft": Compared("Hugging Face PEFT, float32", ceiling="products"),
    "ours": Compared("rsft.peft, float32", "peft", "peft", "products"),
    "modulated": Compared("with modulator", "peft", "peft", "products"),
    "peft-bf16": Compared("Hugging Face PEFT, bfloat16", ceiling="products-bf16"),
    "ours-bf16": Compared("rsft.peft, bfloat16", "peft-bf16", "peft-bf16", "products-bf16"),
    "checkpointed": Compared("checkpointed, float32", "ours", "peft", "products"),
    "last-3": Compared("last 3 blocks, features below computed once", "ours", "peft"),
    "joint": Compared("MetaPEFT, joint, a meta row to 8; ratio of an epoch", "ours", "peft", steps=8 / 9),
}


class Measured(NamedTuple):
    """Seconds of every step, and MB above the bare model in every process."""

    times: list[float]
    above: list[float]


def main(
    model: Annotated[str, typer.Option(help="b: ViT-B/16, l: ViT-L/16.")] = "b",
    rows: Annotated[str, typer.Option(help="Rows by name, with commas between.")] = ",".join(ROWS),
    steps: Annotated[int, typer.Option(help="Steps that are timed in a process.")] = 7,
    rounds: Annotated[int, typer.Option(help="Processes of a row.")] = 2,
    batch: Annotated[int, typer.Option(help="Images in a step.")] = 8,
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 2,
) -> None:
    """Measure and print."""
    needed = with_references(rows.split(","))
    measured = {row: Measured([], []) for row in needed}
    for _ in range(rounds):
        for row in needed:
            command = [sys.executable, "-m", "tools.benchmarks.peft_row", row, model, str(steps), str(batch)]
            environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
            told = json.loads(subprocess.check_output(command, env=environment).splitlines()[-1])
            measured[row].times.extend(told["times"])
            measured[row].above.append(told["above"])
            print(f"{row}: {statistics.median(told['times']):.3f} s", file=sys.stderr)
    print(f"ViT-{model.upper()}/16, batch {batch}, {threads} threads, median of {rounds} x {steps} steps\n")
    print(table(measured))


def with_references(rows: Sequence[str]) -> list[str]:
    """These rows and all that they are compared with, in the order of the table.

    Raises:
        typer.BadParameter: a name that is no row's.
    """
    unknown = sorted(set(rows) - set(ROWS))
    if unknown:
        raise typer.BadParameter(f"no row {', '.join(unknown)}: choose from {', '.join(ROWS)}")
    needed = set(rows).union(*(ROWS[row][1:4] for row in rows))
    return [row for row in ROWS if row in needed]


def table(measured: dict[str, Measured]) -> str:
    """In Markdown, one line a row: seconds and MB, and their ratios."""
    seconds = {row: statistics.median(values.times) for row, values in measured.items()}
    above = {row: statistics.median(values.above) for row, values in measured.items()}
    lines = [
        "| | s a step | ratio | to | MB above the model | ratio | to | of the ceiling |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in measured:
        what, time, memory, ceiling, share = ROWS[row]
        cells = [
            what,
            f"{seconds[row]:.3f}",
            *ratio(seconds, row, time, share),
            f"{above[row]:,.0f}",
            *ratio(above, row, memory),
        ]
        cells.append(f"{seconds[ceiling] / seconds[row]:.2f}" if ceiling in seconds else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def ratio(values: dict[str, float], row: str, to: str | None, share: float = 1.0) -> tuple[str, str]:
    """The ratio, times `share`, and what it is to; both empty where there is nothing to compare with."""
    return (f"{share * values[row] / values[to]:.3f}", to) if to in values else ("", "")


if __name__ == "__main__":
    typer.run(main)
