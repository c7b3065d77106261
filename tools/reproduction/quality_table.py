"""Compare fine-tuning methods on one data set over several seeds: do the missing runs of a study, and print its tables.

    python -m tools.reproduction.quality_table tools/reproduction/studies/mstar_lt.yaml
    --out quality --seeds 0-19

Each run writes one file to OUT, and split_DATA.csv names the chips of each split. The
same command goes on where it stopped. The results behind published tables are in
docs/results/quality: with `--report`, OUT may be a folder there. Runs that several rows
need are done once. A result is used if its recipe is that of the study; other files are
reported and stay. Cost is CPU time of one process with one thread, which other
processes do not change.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    ProcessPoolExecutor,
    as_completed,
)
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from rsft import __version__
from rsft.errors import Interrupted, RsftError
from rsft.utils.atomic_files import write_text
from tools.errors import explained_errors
from tools.reproduction.quality_files import PACKED_FILE, pack_results
from tools.reproduction.quality_results import (
    PARTS,
    Results,
    read_results,
    report_markdown,
)
from tools.reproduction.quality_study import Method, Study, read_study


class NamedRun(Protocol):
    """A run that messages call by its name and seed."""

    @property
    def name(self) -> str:
        """Short text for file names and messages."""

    @property
    def seed(self) -> int:
        """Seed of the run."""


R = TypeVar("R", bound=NamedRun)
"""Type of the runs of a tool."""


class Job(NamedTuple):
    """One run: the name of its configuration, its seed, KEY=VALUE overrides of the recipe, its path, and its method."""

    name: str
    seed: int
    overrides: list[str]
    recipe_path: Path
    method: Method = "finetune"

    def result_file(self, folder: Path) -> Path:
        """Return the path of the run's result in a folder."""
        return folder / f"{self.name}, seed {self.seed}.json"


def run_job(out: Path, job: Job) -> None:
    """Do one run, and write its recall by class on the chips for choices, on the reported chips, and on both.

    They are the validation and the test split. Without a test split, the validation
    chips of a class belong to the two parts in turn.

    Args:
        out: folder of the results.
        job: configuration and seed.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    torch.set_num_threads(1)
    from rsft.data.chips.store import ChipStore
    from rsft.recipe.load import load_recipe
    from rsft.training.runs.writer import git_state
    from tools.reproduction.quality_methods import METHODS, write_split

    recipe = load_recipe(job.recipe_path, [f"seed={job.seed}", *job.overrides])
    git = git_state(Path(__file__)) or {"commit": None, "dirty": None}
    folder = out / "runs" / f"{job.name}, seed {job.seed}"
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    try:
        start = time.process_time()
        predicted = METHODS[job.method](recipe, folder)
        result = {
            "name": job.name,
            "seed": job.seed,
            "overrides": job.overrides,
            "method": job.method,
        }
        result |= {
            "recipe": recipe.model_dump(mode="json"),
            "version": __version__,
            **git,
        }
        result |= {
            "seconds": predicted.seconds - start,
            "trained_parameters": predicted.trained_parameters,
            "recall": predicted.recall(),
            "groups": predicted.groups,
        }
        result |= {
            "scales": predicted.scales,
            "note": predicted.note,
            "split_sha256": predicted.split_sha256,
        }
        store = ChipStore.open(Path(recipe.data.root))
        write_split(store, out / f"split_{store.root.name}.csv")
        write_text(job.result_file(out), json.dumps(result))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def missing_jobs(study: Study, results: Results) -> list[Job]:
    """Return the runs of a study that have no result, seed by seed, each once.

    Args:
        study: the study.
        results: its results.
    """
    jobs: dict[tuple[str, int], Job] = {}
    for seed in study.seeds:
        for row in study.rows:
            for configuration in study.configurations(row, seed):
                key = (configuration.identity, seed)
                if key not in results.runs and key not in jobs:
                    path = configuration.recipe_path
                    method = configuration.method
                    jobs[key] = Job(
                        configuration.name,
                        seed,
                        list(configuration.overrides),
                        path,
                        method,
                    )
    return list(jobs.values())


def do_jobs(jobs: Sequence[R], run: Callable[[R], str], pool: Executor) -> int:
    """Do runs in parallel, with one line on stderr for each.

    Args:
        jobs: the runs.
        run: does one run, and returns why it failed or "".
        pool: the executor.

    Returns:
        Number of failed runs.

    Raises:
        RsftError: a process was killed.
    """
    futures = {pool.submit(run, job): job for job in jobs}
    failures = 0
    for count, future in enumerate(as_completed(futures), 1):
        job = futures[future]
        try:
            message = future.result()
        except BrokenExecutor:
            raise RsftError(
                "a process was killed",
                f"{job.name}, seed {job.seed}",
                "start the same command again; fewer --jobs need less memory",
            ) from None
        failures += bool(message)
        outcome = f": failed: {message}" if message else ""
        print(
            f"{count} of {len(jobs)}: {job.name}, seed {job.seed}{outcome}",
            file=sys.stderr,
            flush=True,
        )
    return failures


def try_job(out: Path, job: Job) -> str:
    """Do one run, and return the message of its error, or "".

    Args:
        out: folder of the results.
        job: configuration and seed.
    """
    return error_message(partial(run_job, out, job))


def error_message(run: Callable[[], object]) -> str:
    """Call a function, and return the message of its error, or "".

    The message is text because not every exception can pass between processes. A signal
    ends the process.

    Args:
        run: the function.
    """
    try:
        run()
    except Interrupted as error:
        # not only the run: the pool would give this process the next one
        os._exit(error.exit_code)
    except RsftError as error:
        return str(error)
    except Exception as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    return ""


def run_parallel(jobs: Sequence[R], run: Callable[[R], str], processes: int) -> int:
    """Do runs in processes of one thread each.

    Args:
        jobs: the runs.
        run: does one run, and returns why it failed or "".
        processes: number of processes.

    Returns:
        Number of failed runs.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_ignore_interrupt) as pool:
        try:
            return do_jobs(jobs, run, pool)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _ignore_interrupt() -> None:
    """Leave Ctrl-C to the main process, which ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line.

    Returns:
        Options by name.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path, help="YAML file of the study")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="recipe keys of every run"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder of the results, one file per run",
    )
    parser.add_argument(
        "--seeds", help="seeds such as 0-19 or 0,3,5 (default: those of the study)"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=2,
        help="processes, each with one thread (%(default)s)",
    )
    parser.add_argument(
        "--pack",
        action="store_true",
        help="then move all results of OUT to one file, runs.jsonl.gz",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="print the tables of finished runs without running more",
    )
    parser.add_argument(
        "--part",
        choices=PARTS,
        default="reported",
        help="chips that the tables measure (%(default)s)",
    )
    return parser.parse_intermixed_args()


def run_tool(work: Callable[[], int]) -> None:
    """Run the work of a command, and exit with a message and a code other than 0 if it stops or runs failed.

    Args:
        work: returns the number of failed runs.
    """
    try:
        with explained_errors():
            failures = work()
    except KeyboardInterrupt:
        print("stopped: run the same command again to continue", file=sys.stderr)
        sys.exit(130)
    if failures:
        print(
            f"{failures} runs failed: run the same command again to repeat them",
            file=sys.stderr,
        )
        sys.exit(1)


def run_study() -> int:
    """Do the missing runs, and print the tables.

    Returns:
        Number of failed runs.
    """
    options = parse_arguments()
    failures = 0
    study = read_study(options.study, options.overrides, options.seeds)
    part = list(PARTS).index(options.part)
    results = read_results(options.out, study, part)
    for reason, files in sorted(results.unused.items()):
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        print(f"not used, {reason}: {', '.join(files[:3])}{more}", file=sys.stderr)
    jobs = missing_jobs(study, results)
    if jobs and not options.report:
        failures = run_parallel(jobs, partial(try_job, options.out), options.jobs)
        results = read_results(options.out, study, part)
    if options.pack:
        print(
            f"{pack_results(options.out)} results in {options.out / PACKED_FILE}",
            file=sys.stderr,
        )
    print(report_markdown(study, results, options.part))
    return failures


def main() -> None:
    """Run the study of the command line."""
    run_tool(run_study)


if __name__ == "__main__":
    main()
