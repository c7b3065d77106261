"""Kill commands at random moments, run them again, and compare what they leave with an undisturbed run.

python -m tools.kill_runs [--kills 100] [--verbs finetune predict-chips ...] [--seed 0]
[--work FOLDER]

Each command runs twice undisturbed: files that differ between these two runs (clocks,
durations) are compared by name. Then it is killed: its main process or its whole
session, at a moment from its start to a tenth beyond its duration. After each kill the
documented command follows until it ends. Counted are files with other bytes, files and
folders that are left, processes that are alive 5 s after the kill, and commands that
fail. The table is Markdown. The commands have a home of their own. Linux only.

Processes are forked from a server that has imported the package, so the imports are not
killed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tools.kill_runs.rounds import Result, kill_verb, run_command
from tools.kill_runs.verbs import VERBS, write_inputs


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if anything differs or is left.

    Args:
        arguments: of the command line; None takes those of this process.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--kills",
        type=int,
        default=len(VERBS),
        help="number of kills of all commands together",
    )
    parser.add_argument(
        "--verbs", nargs="+", choices=list(VERBS), default=list(VERBS), metavar="VERB"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    parser.add_argument(
        "--work",
        type=Path,
        help="an empty folder that is kept; by default a temporary one",
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        inputs = work / "inputs"
        inputs.mkdir(parents=True)
        write_inputs(inputs)
        if any("INPUTS/runs/ships" in VERBS[name].command for name in options.verbs):
            run_command(
                ("finetune", "INPUTS/ships.yaml", "--no-report"),
                inputs,
                inputs,
                work / "log.txt",
            )
        results = []
        for index, name in enumerate(options.verbs):
            kills = len(range(index, options.kills, len(options.verbs)))
            results.append(kill_verb(VERBS[name], kills, work, options.seed))
            print(results[-1].sentences(), file=sys.stderr, flush=True)
    print(markdown(results))
    if all(result.passed for result in results):
        return 0
    return 1


def markdown(results: Sequence[Result]) -> str:
    """Return the table of the results.

    Args:
        results: one per command.
    """
    lines = [
        (
            "| command | seconds | kills | unequal files | left | workers after 5 s |"
            " failed | compared by name |"
        ),
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {x.verb} | {x.seconds:.1f} | {x.kills} | {len(x.unequal)} | {len(x.left)} |"
        f" {x.workers} | {len(x.failed)} | {len(x.volatile)} of {x.files} |"
        for x in results
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
