r"""Test signs of outer signals of MetaPEFT: compare them with the effect of larger scales over whole short runs.

    python -m tools.reproduction.outer_signals recipes/mstar_lt_metalora.yaml --out signals --scales 0.25 1 4 \
        --optimizers sgd:0.3 adamw:0.012:0.01 --seeds 100 101 --epochs 2

The truth comes from plain LoRA with constant scales: the scales of a group of sites (all sites, one position, one
block) are multiplied by 2 and by 1/2, and the final cross entropy on a class-balanced sample of the validation split is
compared. The signals come from the unperturbed run, which records them without acting on them: products of outer
gradients with the displacements of LoRA's factors A and B over the last h inner steps, summed over the run. A signal is
right if it is positive where a larger scale reduces the final loss.

Each run writes one file to OUT; the same command continues a stopped test. Runs use the CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rsft import __version__
from rsft.errors import RequestError
from rsft.recipe.library import find_recipe
from rsft.utils.atomic_files import write_text
from tools.reproduction.quality_table import error_message, run_parallel, run_tool
from tools.reproduction.signal_report import read_signal_results, read_sites, report_markdown
from tools.reproduction.signal_runs import SignalRun, SignalStudy, parse_optimizer, perturbed_runs, read_signal_result

KINDS = ("all", "positions", "blocks")


def run_signal_run(study: SignalStudy, out: Path, run: SignalRun) -> None:
    """Do one run, and write its result.

    Args:
        study: the study.
        out: folder of the results.
        run: the run; an unperturbed one records the signals.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    torch.set_num_threads(1)
    from rsft.training.runs.writer import git_state
    from tools.reproduction.signal_recorder import train_short_run

    git = git_state(Path(__file__)) or {"commit": None, "dirty": None}
    recipe = study.recipe(run.start.optimizer, f"seed={run.seed}", run.scale_override())
    start = time.process_time()
    result = train_short_run(recipe, record=run.direction == 0)
    values = {"name": run.name, "seed": run.seed, "recipe": recipe.model_dump(mode="json"), "version": __version__}
    values |= {**git, "seconds": time.process_time() - start, **result._asdict()}
    write_text(run.result_file(out), json.dumps(values))


def try_signal_run(study: SignalStudy, out: Path, run: SignalRun) -> str:
    """Do one run, and return the message of its error, or "".

    Args:
        study: the study.
        out: folder of the results.
        run: the run.
    """
    return error_message(partial(run_signal_run, study, out, run))


def run_missing_signals(study: SignalStudy, out: Path, processes: int) -> int:
    """Do the runs that have no result: first all unperturbed runs, which also name the sites, then the others.

    Args:
        study: the study.
        out: folder of the results.
        processes: number of processes, each with one thread.

    Returns:
        Number of failed runs.

    Raises:
        RsftError: a process was killed, or a result cannot be read.
    """
    starts = study.starts()
    do_runs = partial(_run_without_result, study, out, processes)
    failures = do_runs([SignalRun(start) for start in starts])
    groups = study.groups(read_sites(study, out))
    return failures + do_runs([run for start in starts for run in perturbed_runs(start, groups)])


def _run_without_result(study: SignalStudy, out: Path, processes: int, runs: Sequence[SignalRun]) -> int:
    missing = [run for run in runs if read_signal_result(run.result_file(out)) is None]
    return run_parallel(missing, partial(try_signal_run, study, out), processes) if missing else 0


def parse_signal_arguments() -> argparse.Namespace:
    """Parse the command line.

    Returns:
        Options by name.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="name or path of a recipe of LoRA; its modulator is left out")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="recipe keys of every run")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results, one file per run")
    parser.add_argument(
        "--scales", type=float, nargs="+", default=[0.25, 1, 4], help="scales of all sites at the start"
    )
    parser.add_argument(
        "--optimizers",
        type=parse_optimizer,
        nargs="+",
        metavar="NAME:LR[:WEIGHT_DECAY]",
        required=True,
        help="optimizers of the inner loop, such as sgd:0.3; the weight decay is that of the recipe unless given",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101], help="seeds (default: 100 101)")
    parser.add_argument("--epochs", type=int, default=2, help="epochs of a run (%(default)s)")
    parser.add_argument(
        "--groups", nargs="+", choices=KINDS, default=KINDS, help="groups of sites (default: all kinds)"
    )
    parser.add_argument("--clear", type=float, default=0.015, help="difference of a clear truth (%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes, each with one thread (%(default)s)")
    parser.add_argument("--report", action="store_true", help="print the tables of finished runs without running more")
    return parser.parse_intermixed_args()


def make_study(options: argparse.Namespace) -> SignalStudy:
    """Return the study of a command line.

    Args:
        options: options by name.

    Returns:
        The study.

    Raises:
        RequestError: the recipe does not exist, or a scale is not positive.
    """
    if min(options.scales) <= 0:
        raise RequestError("a scale is not positive", "--scales", "use numbers above 0, such as 0.25 1 4")
    overrides = [f"train.epochs={options.epochs}", *options.overrides]
    optimizers, scales, seeds = (
        list(dict.fromkeys(values)) for values in (options.optimizers, options.scales, options.seeds)
    )
    return SignalStudy(find_recipe(options.recipe), overrides, optimizers, scales, seeds, options.groups)


def run_sign_test() -> int:
    """Do the missing runs, and print the tables.

    Returns:
        Number of failed runs.
    """
    options = parse_signal_arguments()
    study = make_study(options)
    failures = 0 if options.report else run_missing_signals(study, options.out, options.jobs)
    print(report_markdown(read_signal_results(study, options.out), options.clear))
    return failures


def main() -> None:
    """Run the sign test of the command line."""
    run_tool(run_sign_test)


if __name__ == "__main__":
    main()
