"""Compare 21 PEFT methods at equal trained parameters and equal CPU seconds, and write the page.

    python -m tools.reproduction.peft_methods

The head of each study, tools/reproduction/studies/peft_methods_DATA.yaml, says how its
chips are made. A row has the size, the learning rate and the number of epochs of its
method. Epochs have four steps and make runs of about equal CPU seconds; `--measure`
prints the seconds of one epoch of every method on this machine. Learning rates were
chosen on validation chips of RSSCN7 with another seed: `--rates` does these runs, and
prints the chosen rate of every method.

Results go to docs/results/quality/peft_methods, one file per run and then packed. The
same command goes on where it stopped, seed by seed, and writes the tables of
docs/results/peft_methods.md at its end.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from rsft.plugins.short_epochs.sampler import CHIPS
from rsft.recipe.load import load_recipe
from rsft.recipe.schema import Recipe
from rsft.utils.atomic_files import write_text
from tools.reproduction.quality_files import CHOICE, GROUPS, REPORTED, pack_results
from tools.reproduction.quality_results import (
    Results,
    complete_seeds,
    differences,
    format_interval,
    format_p_value,
    holm,
    paired_p_value,
    read_results,
)
from tools.reproduction.quality_study import Row, Study, read_study
from tools.reproduction.quality_table import (
    Job,
    missing_jobs,
    run_parallel,
    run_tool,
    try_job,
)
from tools.reproduction.result_tables import ROOT, fill_tables

STUDIES = Path(__file__).parent / "studies"
RESULTS = ROOT / "docs/results/quality/peft_methods"
PAGE = ROOT / "docs/results/peft_methods.md"
DATA = ("rsscn7_lt", "mstar_lt", "cifar100_lt10")
RATES = [0.006, 0.024, 0.096]
"""Learning rates that are compared; the first one is that of the recipes."""
RATE_SEED = 100


def read_studies(seeds: str | None = None) -> list[Study]:
    """Return the study of each data set.

    Args:
        seeds: seeds in place of those of the studies, such as "0-1".
    """
    paths = [STUDIES / f"peft_methods_{data}.yaml" for data in DATA]
    return [read_study(path, seeds=seeds) for path in paths]


def rate_study() -> Study:
    """Return the study of all methods at every rate, on RSSCN7.

    A row without PEFT modules tries the rates on its head.
    """
    study = read_study(STUDIES / "peft_methods_rsscn7_lt.yaml", seeds=str(RATE_SEED))
    groups = {
        heading: [_with_rates(row) for row in rows]
        for heading, rows in study.groups.items()
    }
    return study.model_copy(update={"groups": groups})


def _with_rates(row: Row) -> Row:
    is_head = "peft={method: linear-probe}" in row.overrides
    key = "train.head_lr" if is_head else "train.lr"
    return row.model_copy(update={"grid": {key: RATES}})


def choose_rates(study: Study, results: Results) -> dict[str, float]:
    """Return the rate with the best macro accuracy on the validation chips, by title of the row.

    Args:
        study: the study of `rate_study`.
        results: its results. A row without all of them is left out.
    """
    rates: dict[str, float] = {}
    for row in study.rows:
        for runs in complete_seeds(study, row, results).values():
            macro = [run.accuracy(CHOICE)["macro"] for run in runs]
            rates[row.title] = RATES[macro.index(max(macro))]
    return rates


def try_row(out: Path, job: Job) -> str:
    """Do one run, and return the message of its error, or "".

    Args:
        out: folder of the results.
        job: configuration and seed.
    """
    # else the seconds of the first tuner in a process contain the import
    importlib.import_module("peft")
    return try_job(out, job)


def run_missing(studies: Sequence[Study], out: Path, jobs: int) -> int:
    """Do the missing runs of studies, the first seed of all of them first, and pack the results.

    Args:
        studies: the studies.
        out: folder of the results.
        jobs: number of processes.

    Returns:
        Number of failed runs.
    """
    todo = [
        job
        for study in studies
        for job in missing_jobs(study, read_results(out, study))
    ]
    failures = 0
    if todo:
        todo.sort(key=lambda job: job.seed)
        failures = run_parallel(todo, partial(try_row, out), jobs)
        pack_results(out)
    return failures


def seconds_per_epoch(recipe: Recipe) -> float:
    """Return the median CPU seconds of the epochs between the first and the last.

    The first one warms up, and the last one validates.

    Args:
        recipe: a recipe of at least three epochs.
    """
    from rsft.training.finetune import train_single_run
    from rsft.training.listeners import RunListener

    class Clock(RunListener):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_epoch_end(self, *_: object) -> None:
            self.times.append(time.process_time())

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        train_single_run(recipe, Path(folder), clock)
    pairs = zip(clock.times[:-2], clock.times[1:-1], strict=True)
    return statistics.median(end - start for start, end in pairs)


def measure() -> None:
    """Print the CPU seconds of an epoch of every row, on RSSCN7."""
    import torch

    torch.set_num_threads(1)
    study = read_study(STUDIES / "peft_methods_rsscn7_lt.yaml")
    for row in study.rows:
        (configuration,) = study.configurations(row, RATE_SEED)
        overrides = [*configuration.overrides, "train.epochs=9"]
        recipe = load_recipe(configuration.recipe_path, overrides)
        print(f"{seconds_per_epoch(recipe):7.3f} {row.title}", flush=True)


def compare_rates(jobs: int) -> int:
    """Do the missing runs of all rates, and print the chosen ones.

    Args:
        jobs: number of processes.

    Returns:
        Number of failed runs.
    """
    study = rate_study()
    failures = run_missing([study], RESULTS, jobs)
    for title, rate in choose_rates(study, read_results(RESULTS, study)).items():
        print(f"{rate:6} {title}")
    return failures


def summary_table(studies: Sequence[Study], results: Sequence[Results]) -> list[str]:
    """Return the lines of a table over all data sets: sizes, settings, accuracies and cost.

    The difference to the base is a mean over the pairs of runs with the same data set
    and seed, with its 95 % interval. Its p value is corrected over all rows.

    Args:
        studies: studies with the same rows.
        results: results of each study.
    """
    rows = studies[0].rows
    tables = {row.title: _all_runs(studies, results, row.title) for row in rows}
    base_title = next(row.title for row in rows if row.base)
    gains = {
        title: differences(table, tables[base_title], "macro")
        for title, table in tables.items()
        if title != base_title
    }
    p_values = holm([paired_p_value(gain) for gain in gains.values()])
    compared = dict(zip(gains, p_values, strict=True))
    lines = [
        "| method | trained parameters | rate | steps | macro | tail | macro, difference"
        f" to {base_title} | p | CPU s |",
        "|---" * 9 + "|",
    ]
    for title, table in tables.items():
        if table.empty:
            continue
        first = table.iloc[0]
        cells = [
            title,
            f"{table['trained'].min():,.0f}",
            f"{first['rate']:g}",
            f"{first['steps']:.0f}",
            f"{table['macro'].mean():.1f}",
            f"{table['tail'].mean():.1f}",
            format_interval(gains[title]) if title in gains else "",
            format_p_value(compared[title]) if title in gains else "",
            f"{table['seconds'].median():.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _all_runs(
    studies: Sequence[Study], results: Sequence[Results], title: str
) -> pd.DataFrame:
    """Return accuracies, settings and seconds of a row by data set and seed."""
    records: dict[tuple[int, int], dict[str, float]] = {}
    for number, (study, finished) in enumerate(zip(studies, results, strict=True)):
        row = next(row for row in study.rows if row.title == title)
        for seed, (run,) in complete_seeds(study, row, finished).items():
            recipe = json.loads(run.identity)
            train = recipe["train"]
            is_head = recipe["peft"]["method"] == "linear-probe"
            records[number, seed] = run.accuracy(REPORTED) | {
                "seconds": run.seconds,
                "trained": run.trained_parameters or 0,
                "rate": train["head_lr"] if is_head else train["lr"],
                "steps": train["epochs"] * CHIPS // train["batch_size"],
            }
    columns = [*GROUPS, "seconds", "trained", "rate", "steps"]
    return pd.DataFrame.from_dict(records, orient="index", columns=columns, dtype=float)


def rate_table(study: Study, results: Results) -> list[str]:
    """Return the lines of a table of macro accuracy on the validation chips by rate.

    Args:
        study: the study of `rate_study`.
        results: its results.
    """
    lines = [f"| macro | {' | '.join(f'{rate:g}' for rate in RATES)} |"]
    lines.append("|---" * (len(RATES) + 1) + "|")
    for row in study.rows:
        for runs in complete_seeds(study, row, results).values():
            values = [f"{run.accuracy(CHOICE)['macro']:.1f}" for run in runs]
            lines.append(f"| {row.title} | {' | '.join(values)} |")
    return lines


def fill_page(text: str) -> str:
    """Return the page with its tables written again.

    Args:
        text: Markdown.
    """
    studies = read_studies()
    results = [read_results(RESULTS, study) for study in studies]
    rates = rate_study()
    tables = {
        "summary": summary_table(studies, results),
        "rates": rate_table(rates, read_results(RESULTS, rates)),
    }
    for name, lines in tables.items():
        start = f"<!-- {name} -->\n"
        before, after = text.split(start)
        _, end, after = after.partition("<!-- end -->")
        table = "\n".join(lines)
        text = f"{before}{start}\n{table}\n\n{end}{after}"
    return fill_tables(text)


def compare(seeds: str | None, jobs: int) -> int:
    """Do the missing runs of all data sets, and write the tables of the page.

    Args:
        seeds: seeds in place of those of the studies.
        jobs: number of processes.

    Returns:
        Number of failed runs.
    """
    failures = run_missing(read_studies(seeds), RESULTS, jobs)
    write_text(PAGE, fill_page(PAGE.read_text("utf-8")))
    return failures


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", help="such as 0-1 (default: those of the studies)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (%(default)s)")
    parser.add_argument(
        "--measure", action="store_true", help="print the CPU seconds of an epoch"
    )
    parser.add_argument(
        "--rates", action="store_true", help="compare learning rates instead"
    )
    options = parser.parse_args()
    if options.measure:
        measure()
    elif options.rates:
        run_tool(partial(compare_rates, options.jobs))
    else:
        run_tool(partial(compare, options.seeds, options.jobs))


if __name__ == "__main__":
    main()
