"""Read the corpus and mutated inputs: python -m tests.fuzz [--seed 1] [--count 20000]
[--class NAME] [--out FOLDER] [--without-cell]."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.fuzz import sandbox
from tests.fuzz.registry import CORPORA, load_targets
from tests.fuzz.target import Target

SAVED_PER_FAULT = 1
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Folder for the inputs, if the system has one in memory: a file on a disk takes as
long as reading an input."""


def main() -> int:
    """Read the inputs, save those with a fault, and print a table. Return 1 if there is
    a fault."""
    parser = argparse.ArgumentParser(prog="tests.fuzz")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--count",
        type=int,
        default=200,
        help="mutated inputs per class, beside those of the corpus",
    )
    parser.add_argument(
        "--class",
        dest="name",
        default="",
        help="class of input, or group, such as stores",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("fuzz-failures"),
        help="folder of inputs with a fault",
    )
    parser.add_argument(
        "--without-cell",
        action="store_true",
        help="let all readers run in the process of the fuzzer, which is faster",
    )
    options = parser.parse_args()
    targets = load_targets(options.name)
    if not targets:
        parser.error(f"no class or group {options.name}")
    print(
        f"{'class':<24}{'inputs':>8}{'accepted':>10}{'told':>8}{'faults':>8}{'slowest':>9}{'all':>9}",
        flush=True,
    )
    faults = 0
    for target in targets:
        kinds, names, seconds = _try(target, options)
        count = sum(kinds.values())
        failed = count - sum(kinds[kind] for kind in sandbox.PASSED)
        faults += failed
        counts = f"{count:>8}{kinds['accepted']:>10}{kinds['told']:>8}{failed:>8}"
        print(
            f"{target.name:<24}{counts}{max(seconds, default=0):>7.1f}"
            f" s{sum(seconds):>7.1f} s",
            flush=True,
        )
        for name, number in sorted(names.items()):
            print(f"    {number:>6}  {name}", flush=True)
    print(f"{faults} faults" + (f"; the inputs are in {options.out}" if faults else ""))
    return int(faults > 0)


def _try(
    target: Target, options: argparse.Namespace
) -> tuple[Counter[str], Counter[str], list[float]]:
    """Return the number of inputs by outcome, of faults by name, and the seconds of
    each input."""
    kinds = Counter[str]()
    names = Counter[str]()
    seconds: list[float] = []
    files = [
        path for corpus in CORPORA for path in sorted((corpus / target.name).rglob("*"))
    ]
    # corpus/<class>/<changed file, / as +>/<name>
    entries = [
        (path.parent.name.replace("+", "/"), path.read_bytes())
        for path in files
        if path.is_file()
    ]
    count = len(entries) + options.count

    def make(index: int, originals: dict[str, bytes]) -> tuple[str, bytes]:
        mutation = index - len(entries)
        return (
            entries[index]
            if mutation < 0
            else target.mutate(options.seed, mutation, originals)
        )

    with tempfile.TemporaryDirectory(prefix="rsft-fuzz-", dir=MEMORY) as folder:
        originals: dict[str, bytes] = {}
        for outcome in sandbox.run(
            target, count, make, Path(folder), not options.without_cell
        ):
            kinds[outcome.kind] += 1
            seconds.append(outcome.seconds)
            if outcome.kind in sandbox.PASSED:
                continue
            names[outcome.name] += 1
            originals = originals or sandbox.write_originals(
                target, Path(folder, "originals")
            )
            if names[outcome.name] <= SAVED_PER_FAULT:
                _save(target, outcome, *make(outcome.index, originals), options)
    return kinds, names, seconds


def _save(
    target: Target,
    outcome: sandbox.Outcome,
    file: str,
    content: bytes,
    options: argparse.Namespace,
) -> None:
    """Save an input with a fault, and its traceback."""
    folder_of_file = options.out / target.name / file.replace("/", "+")
    folder_of_file.mkdir(parents=True, exist_ok=True)
    (folder_of_file / outcome.name).write_bytes(content)
    (options.out / target.name / f"{outcome.name}.txt").write_text(
        f"input {outcome.index}\n{outcome.detail}"
    )


if __name__ == "__main__":
    sys.exit(main())
