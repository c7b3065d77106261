"""Compare twenty PEFT methods at equal trained parameters and at equal CPU seconds, and write the page.

    python -m tools.reproduction.peft_methods mstar_lt rsscn7_lt cifar100_lt10

The head of each study, tools/reproduction/studies/peft_methods_DATA.yaml, says how its
chips are made. First come its runs at equal trained parameters. Then a second study,
peft_methods_DATA_seconds.yaml, gives each method the epochs that took it as many CPU
seconds as the slowest quarter of the methods; it is written once, and stays. Results go
to docs/results/quality, one file per run and then packed. The same command goes on
where it stopped, and writes the tables of docs/results/peft_methods.md from the results
at its end.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np

from rsft.recipe.text import to_yaml
from rsft.utils.atomic_files import write_text
from tools.reproduction.quality_files import pack_results
from tools.reproduction.quality_results import read_results, row_results
from tools.reproduction.quality_study import Study, read_study
from tools.reproduction.quality_table import (
    missing_jobs,
    run_parallel,
    run_tool,
    try_job,
)
from tools.reproduction.result_tables import ROOT, fill_tables

STUDIES = Path(__file__).parent / "studies"
RESULTS = ROOT / "docs/results/quality"
PAGE = ROOT / "docs/results/peft_methods.md"
DATA = ("mstar_lt", "rsscn7_lt", "cifar100_lt10")


def equal_seconds(study: Study, results_folder: Path) -> str:
    """Return the text of a study with epochs for about equal CPU seconds.

    The budget of a run is the upper quartile of the CPU seconds of the methods in the
    first study. A method gets its epochs there, times budget by its own seconds.

    Args:
        study: the study at equal trained parameters, with results of every row.
        results_folder: folder of its results.

    Raises:
        SystemExit: a row has no result.
    """
    results = read_results(results_folder, study)
    seconds = {
        row.title: row_results(study, row, results)["seconds"].median()
        for row in study.rows
    }
    missing = [title for title, value in seconds.items() if not value > 0]
    if missing:
        raise SystemExit(f"{study.title}: no run of {', '.join(missing)}")
    budget = float(np.quantile(list(seconds.values()), 0.75))
    lines = [
        f"# Written by tools/reproduction/peft_methods.py: {budget:.0f} CPU seconds per"
        " run. Delete this file to write it again",
        "",
        f"title: {to_yaml(study.title.replace('trained parameters', 'CPU seconds'))}",
        f"recipe: {study.recipe}",
        f"overrides: {to_yaml(list(study.overrides))}",
        f"seeds: {to_yaml(list(study.seeds))}",
        "",
        "groups:",
    ]
    for heading, rows in study.groups.items():
        lines.append(f"  {heading}:")
        for row in rows:
            (configuration,) = study.configurations(row, study.seeds[0])
            keys = dict(text.split("=", 1) for text in configuration.overrides)
            factor = budget / seconds[row.title]
            epochs = max(1, round(int(keys["train.epochs"]) * factor))
            values = {
                "title": row.title,
                "overrides": [*row.overrides, f"train.epochs={epochs}"],
                "base": row.base,
            }
            lines.append(f"    - {to_yaml(values)}")
    return "\n".join(lines) + "\n"


def run_missing(study: Study, out: Path, jobs: int) -> int:
    """Do the missing runs of a study, and pack its results.

    Returns:
        Number of failed runs.
    """
    todo = missing_jobs(study, read_results(out, study))
    failures = 0
    if todo:
        failures = run_parallel(todo, partial(try_job, out), jobs)
        pack_results(out)
    return failures


def compare(data: str, seeds: str | None, jobs: int) -> int:
    """Do the missing runs of both studies of a data set.

    Returns:
        Number of failed runs.
    """
    name = f"peft_methods_{data}"
    study = read_study(STUDIES / f"{name}.yaml", seeds=seeds)
    failures = run_missing(study, RESULTS / name, jobs)
    if failures:
        return failures
    path = STUDIES / f"{name}_seconds.yaml"
    if not path.is_file():
        write_text(path, equal_seconds(study, RESULTS / name))
    second = read_study(path, seeds=seeds)
    return run_missing(second, RESULTS / f"{name}_seconds", jobs)


def add_tables(text: str, folder: Path = RESULTS) -> str:
    """Return the page with a section for every study that has results.

    Args:
        text: Markdown of the page.
        folder: folder of the results of all studies.
    """
    for name in [f"peft_methods_{x}{end}" for x in DATA for end in ("", "_seconds")]:
        has_section = f" from {name} -->" in text
        if (folder / name).is_dir() and not has_section:
            title = read_study(STUDIES / f"{name}.yaml").title
            table = f"<!-- methods {name} from {name} -->\n<!-- end -->\n"
            text = f"{text.rstrip()}\n\n## {title}\n\n{table}"
    return text


def main() -> None:
    """Do the runs of the data sets of the command line, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="*", metavar="DATA", help="default: all three")
    parser.add_argument("--seeds", help="such as 0-2 (default: those of the study)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (%(default)s)")
    options = parser.parse_args()
    unknown = sorted(set(options.data) - set(DATA))
    if unknown:
        sys.exit(f"no data set {', '.join(unknown)}: use {', '.join(DATA)}")

    def work() -> int:
        failures = sum(
            compare(data, options.seeds, options.jobs) for data in options.data or DATA
        )
        write_text(PAGE, fill_tables(add_tables(PAGE.read_text("utf-8"))))
        return failures

    run_tool(work)


if __name__ == "__main__":
    main()
