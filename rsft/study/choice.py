"""Choose a recipe for a chip store by cross-validation on its training chips, for a file with `method: auto`.

Each run of a candidate on a fold is an ordinary run folder. Successive halving spends
little on candidates that fall behind: all run for a part of their epochs on one fold,
the better half on all folds, and the best two for all epochs. Validation and test chips
of the store are not used.
"""

from __future__ import annotations

import logging
import math
import signal
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsft.errors import Interrupted, RequestError, RsftError
from rsft.recipe.load import dump_recipe
from rsft.recipe.schema import Recipe
from rsft.study.choice_file import AutoPlan, Candidate
from rsft.study.outcomes import RECIPE, TRIALS, TrialOutcome, read_outcome
from rsft.study.sweep_file import Trial
from rsft.study.training import read_run_outcome, train_in_folder
from rsft.training.listeners import RunListener, StepReport
from rsft.training.runs.reader import hash_data, lock_run
from rsft.utils.atomic_files import write_text

if TYPE_CHECKING:
    from rsft.training.runs.writer import Run

SHORT = 0.25
"""Share of the epochs of a candidate in its first comparisons."""

FINALISTS = 2
"""Candidates that are compared with all of their epochs."""

_CPU_FILE = "cpu_seconds.txt"


@dataclass(frozen=True)
class TriedCandidate:
    """What one candidate reached with one number of epochs.

    Attributes:
        folds: number of folds that were held out.
        macro, tail: means over folds, 0-1; None if no fold has a number.
        macro_spread, tail_spread: standard deviations over folds; None with less than
            two of them.
        cpu_seconds: CPU time of its runs.
        chosen: whether these numbers decided for the candidate.
        fault: why it failed; "" if it did not.
    """

    candidate: str
    epochs: int
    folds: int
    macro: float | None
    macro_spread: float | None
    tail: float | None
    tail_spread: float | None
    cpu_seconds: float
    chosen: bool = False
    fault: str = ""


@dataclass(frozen=True)
class Choice:
    """The chosen candidate, and what was tried; the entry "choice" of run.json is `metadata`.

    Attributes:
        recipe: recipe for all training chips.
        source: file of the candidate.
        sentence: the result in one sentence.
        metadata: measure, folds, seed, budget, notes, sentence, and the rows of the
            table.
    """

    recipe: Recipe
    source: Path
    sentence: str
    metadata: dict[str, Any]


class SearchListener(RunListener):
    """Base class of listeners to a choice; the events of its runs come after `on_trial`."""

    def on_trial(self, trial: Trial, spent_s: float, budget_s: float) -> None:
        """Handle the start of a run, given the CPU seconds so far and in all."""

    def on_table(self, rows: Sequence[TriedCandidate], changed: int) -> None:
        """Handle the end of a run, given the table so far and the number of its row, from 0."""


class BudgetSpentError(Interrupted):
    """The CPU time of a choice is spent; the run that was in progress can be continued."""

    def __init__(self) -> None:
        super().__init__(signal.SIGTERM)


class _Meter(RunListener):
    """Passes the events of a run on, and stops the run when the budget is spent.

    Args:
        listener: receives the events.
        folder: folder of the trial, which keeps its CPU seconds, also those of earlier
            sessions.
        allowed_s: CPU seconds that are left.
    """

    def __init__(self, listener: RunListener, folder: Path, allowed_s: float) -> None:
        self.listener = listener
        self.folder = folder
        self.earlier_s = _read_cpu_seconds(folder)
        self.began = time.process_time()
        self.allowed_s = allowed_s

    @property
    def seconds(self) -> float:
        """CPU seconds of this session."""
        return time.process_time() - self.began

    def save(self) -> None:
        """Write the CPU seconds of all sessions."""
        write_text(self.folder / _CPU_FILE, f"{self.earlier_s + self.seconds:.3f}\n")

    def on_progress(self, done: int, total: int, item: str) -> None:
        self.listener.on_progress(done, total, item)

    def on_start(self, run: Run, metadata: dict[str, Any]) -> None:
        self.listener.on_start(run, metadata)

    def on_step(self, step: StepReport) -> None:
        if self.seconds > self.allowed_s:
            raise BudgetSpentError
        self.listener.on_step(step)

    def on_epoch_end(self, row: dict[str, float], scales: Any) -> None:
        self.save()
        self.listener.on_epoch_end(row, scales)


def _read_cpu_seconds(folder: Path) -> float:
    with suppress(OSError, ValueError):
        return float((folder / _CPU_FILE).read_text("utf-8"))
    return 0.0


class AutoSearch:
    """The folder RUNS/sweeps/<name>/ of a choice, with one folder for each run of a candidate on a fold.

    Args:
        plan: the checked file.
        folder: the folder; finished runs in it are not run again, and an unfinished one
            is continued.
        listener: called with the progress.
    """

    def __init__(
        self, plan: AutoPlan, folder: Path, listener: SearchListener | None = None
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.listener = listener or SearchListener()
        self.outcomes: dict[
            tuple[str, int, int], TrialOutcome
        ] = {}  # by candidate, epochs and fold
        self.stages: list[
            tuple[list[Candidate], float]
        ] = []  # candidates and share of their epochs

    def run(self) -> Choice:
        """Compare the candidates, until the end or until the budget is spent.

        Raises:
            Interrupted: SIGINT or SIGTERM; the same command continues.
            RequestError: the data has no validation chips, no candidate can be trained,
                or another process works on the choice.
        """
        from rsft.training.finetune import open_data

        folds = self.plan.settings.folds
        is_complete = False
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = lock_run(self.folder)
        try:
            with _only_errors(
                logging.getLogger("rsft.training.finetune")
            ):  # the chosen run warns again
                open_data(self.plan.candidates[0].recipe.data)
                candidates = list(self.plan.candidates)
                for share, count in ((SHORT, 1), (SHORT, folds), (1.0, folds)):
                    self.stages.append((candidates, share))
                    for fold in range(1, count + 1):
                        for candidate in candidates:
                            if not self._fault(candidate):
                                self._run_trial(candidate, fold, share)
                    candidates = self._rank(candidates, share)[
                        : max(FINALISTS, -(-len(candidates) // 2))
                    ]
                    if count > 1:
                        candidates = candidates[:FINALISTS]
                    else:
                        candidates = candidates
            is_complete = True
        except BudgetSpentError:
            pass
        except Interrupted as error:
            raise Interrupted(
                error.exit_code - 128, self.folder, "run the same command to continue"
            ) from error
        finally:
            lock.release()
        return self._choose(is_complete)

    @property
    def spent_s(self) -> float:
        """CPU seconds of all runs of the choice, also of earlier sessions."""
        folds = self.plan.settings.folds
        trials = (
            candidate.trial(fold, folds, share).id
            for candidate in self.plan.candidates
            for fold in range(1, folds + 1)
            for share in (SHORT, 1.0)
        )
        return sum(
            _read_cpu_seconds(self.folder / TRIALS / id) for id in dict.fromkeys(trials)
        )

    def _run_trial(self, candidate: Candidate, fold: int, share: float) -> None:
        """Run a candidate on a fold, or read its outcome if it is known.

        Raises:
            BudgetSpentError: the budget is spent.
            Interrupted: SIGINT or SIGTERM.
        """
        if self._has_run(candidate, share, fold):
            return
        trial = candidate.trial(fold, self.plan.settings.folds, share)
        folder = self.folder / TRIALS / trial.id
        budget_s = self.plan.settings.budget_seconds
        outcome = read_outcome(folder)
        if (
            outcome is None
            or outcome.status == "failed"
            or outcome.data != hash_data(trial.recipe.data)
        ):
            if outcome is not None:
                (folder / _CPU_FILE).unlink(missing_ok=True)
            spent_s = self.spent_s
            if spent_s >= budget_s:
                raise BudgetSpentError
            self.listener.on_trial(trial, spent_s, budget_s)
            write_text(folder / RECIPE, dump_recipe(trial.recipe))
            meter = _Meter(self.listener, folder, budget_s - spent_s)
            fault = ""
            try:
                train_in_folder(folder, meter)
            except Interrupted:
                raise
            except (RsftError, RuntimeError, MemoryError) as error:
                parts = (
                    (error.message, error.location)
                    if isinstance(error, RsftError)
                    else (str(error),)
                )
                fault = ": ".join(filter(None, parts)) or type(error).__name__
            finally:
                meter.save()
            outcome = read_run_outcome(
                folder, trial.keys, "failed" if fault else "done", fault, "macro"
            )
            outcome.save(folder)
        row = candidate.name, candidate.epochs(share)
        self.outcomes[*row, fold] = outcome
        rows = self._rows()
        self.listener.on_table(rows, [(x.candidate, x.epochs) for x in rows].index(row))

    def _fault(self, candidate: Candidate) -> str:
        """Return why a run of a candidate failed; "" if none did."""
        failed = (
            x.reason
            for key, x in self.outcomes.items()
            if key[0] == candidate.name and x.status != "done"
        )
        return next(failed, "")

    def _values(
        self,
        candidate: Candidate,
        share: float,
        measure: str,
        folds: Sequence[int] = (),
    ) -> list[float]:
        """Return a measure in those of some folds (by default all) that have it."""
        folds = folds or range(1, self.plan.settings.folds + 1)
        outcomes = (
            self.outcomes.get((candidate.name, candidate.epochs(share), fold))
            for fold in folds
        )
        return [
            x.metrics[measure]
            for x in outcomes
            if x is not None and measure in x.metrics
        ]

    def _rank(
        self, candidates: Sequence[Candidate], share: float, folds: Sequence[int] = ()
    ) -> list[Candidate]:
        """Return the candidates that did not fail, the best one first; of equal ones, the first of the file."""

        def key(candidate: Candidate) -> list[float]:
            values = (
                self._values(candidate, share, x, folds)
                for x in (self.plan.settings.measure, "macro")
            )
            return [-statistics.fmean(x) if x else math.inf for x in values]

        return sorted((x for x in candidates if not self._fault(x)), key=key)

    def _choose(self, is_complete: bool) -> Choice:
        """Return the best candidate of the last stage in which all candidates have been run on the same folds."""
        able = [x for x in self.plan.candidates if not self._fault(x)]
        if not able:
            faults = "; ".join(
                f"{x.name}: {self._fault(x)}" for x in self.plan.candidates
            )
            raise RequestError(
                f"no candidate can be trained: {faults}",
                self.plan.candidates[0].recipe.data.root,
                "correct the data or the candidates",
            )
        for candidates, share in reversed(self.stages):
            compared = [x for x in candidates if x in able]
            folds = self._common_folds(compared, share)
            if folds:
                break
        else:  # the budget ended in the first comparison
            compared = [x for x in able if self._has_run(x, SHORT, 1)]
            share = SHORT
            folds = self._common_folds(compared, share)
        ranked = self._rank(compared, share, folds) if folds else able
        best = ranked[0]
        settings = self.plan.settings
        sentence = self._sentence(ranked, share, folds, is_complete)
        metadata = {
            **{
                "measure": settings.measure,
                "folds": settings.folds,
                "seed": settings.seed,
                "budget": settings.budget,
            },
            **{
                "complete": is_complete,
                "chosen": best.name,
                "sentence": sentence,
                "notes": list(self.plan.notes),
            },
            "candidates": [
                asdict(row) for row in self._rows((best.name, best.epochs(share)))
            ],
        }
        recipe = best.recipe.model_copy(update={"name": settings.name})
        return Choice(recipe, best.path, sentence, metadata)

    def _has_run(self, candidate: Candidate, share: float, fold: int) -> bool:
        return (candidate.name, candidate.epochs(share), fold) in self.outcomes

    def _common_folds(self, candidates: Sequence[Candidate], share: float) -> list[int]:
        """Return the folds on which all candidates have been run; none without a candidate."""
        folds = range(1, self.plan.settings.folds + 1)
        return [
            fold
            for fold in folds
            if candidates and all(self._has_run(x, share, fold) for x in candidates)
        ]

    def _sentence(
        self,
        ranked: Sequence[Candidate],
        share: float,
        folds: Sequence[int],
        is_complete: bool,
    ) -> str:
        """Return the result in one sentence, such as "chosen: LoRA, macro 84.1 ± 1.2 in 3 folds; linear probe 78.3"."""
        measure = self.plan.settings.measure
        budget = self.plan.settings.budget
        best, *others = ranked
        if not folds:
            return (
                f"chosen: {best.name}, the first candidate: the budget of {budget}"
                " ended before a comparison"
            )
        means = [
            _mean_and_spread(self._values(x, share, measure, folds)) for x in ranked
        ]
        number = f"{len(folds)} fold{'s' * (len(folds) > 1)}"
        sentence = (
            f"chosen: {best.name}, {measure} {format_accuracy(*means[0])} in {number}"
        )
        pairs = zip(others, means[1:], strict=True)
        sentence += "".join(
            f"; {x.name} {format_accuracy(mean)}" for x, (mean, _) in pairs
        )
        if is_complete:
            return sentence
        epochs = "" if share == 1 else " with a part of the epochs"
        return (
            f"{sentence}{epochs}; the budget of {budget} ended before the last"
            " comparison"
        )

    def _rows(self, chosen: tuple[str, int] | None = None) -> list[TriedCandidate]:
        """Return the table: one row for each candidate and number of epochs, in the order of the runs."""
        rows: dict[tuple[str, int], TriedCandidate] = {}
        for candidate, share in (
            (x, share) for share in (SHORT, 1.0) for x in self.plan.candidates
        ):
            key = candidate.name, candidate.epochs(share)
            outcomes = {
                fold: x
                for (*row, fold), x in self.outcomes.items()
                if tuple(row) == key
            }
            if outcomes:
                trials = [
                    candidate.trial(fold, self.plan.settings.folds, share).id
                    for fold in outcomes
                ]
                seconds = round(
                    sum(_read_cpu_seconds(self.folder / TRIALS / id) for id in trials),
                    1,
                )
                macro = _mean_and_spread(self._values(candidate, share, "macro"))
                tail = _mean_and_spread(self._values(candidate, share, "tail"))
                fault = next(
                    (x.reason for x in outcomes.values() if x.status != "done"), ""
                )
                rows[key] = TriedCandidate(
                    *key, len(outcomes), *macro, *tail, seconds, key == chosen, fault
                )
        return list(rows.values())


def _mean_and_spread(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the mean, None without a value, and the standard deviation, None with less than two values."""
    return (
        statistics.fmean(values) if values else None,
        statistics.stdev(values) if len(values) > 1 else None,
    )


def format_accuracy(mean: float | None, spread: float | None = None) -> str:
    """Return an accuracy in % with its standard deviation, such as "84.1 ± 1.2"; "-" without a value."""
    if mean is None:
        return "-"
    return f"{100 * mean:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")


@contextmanager
def _only_errors(logger: logging.Logger) -> Iterator[None]:
    """Hide the warnings of a logger within the block."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
