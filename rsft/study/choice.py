"""Choose a recipe for a chip store by cross-validation on its training chips.

Each run of a candidate on a fold is an ordinary run folder. Successive halving spends
little on candidates that fall behind: all run for a part of their epochs on one fold,
the better half on all folds, and the best two for all epochs. Recipes that also learn
from unlabeled chips are compared with the best one of the others, and with that of the
same network: a pool can cost accuracy, and only folds tell. Validation and test chips
of the store are not used.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from signal import SIGTERM
from typing import Any

from rsft.errors import Interrupted, RequestError
from rsft.recipe.load import dump_recipe
from rsft.recipe.schema import Recipe
from rsft.study.choice_file import AutoPlan, Candidate
from rsft.study.comparison import (
    SHORT,
    CandidateComparison,
    Ranking,
    Result,
    Stage,
    TriedCandidate,
)
from rsft.study.outcomes import RECIPE, TRIALS, TrialOutcome, read_outcome
from rsft.study.runs import run_trial
from rsft.study.trials import Trial
from rsft.training.listeners import RunListener, StepReport
from rsft.training.runs.reader import Epoch, hash_data, lock_run
from rsft.types import JsonObject
from rsft.utils.atomic_files import write_text

FINALISTS = 2
"""Candidates that are compared with all of their epochs."""

_CPU_FILE = "cpu_seconds.txt"


@dataclass(frozen=True)
class Choice:
    """The chosen candidate, and what was tried.

    Attributes:
        recipe: recipe for all training chips.
        source: file of the candidate.
        sentence: the result in one sentence.
        metadata: the entry "choice" of run.json: measure, folds, seed, budget, notes,
            sentence, and the rows of the table.
    """

    recipe: Recipe
    source: Path
    sentence: str
    metadata: JsonObject


class SearchListener:
    """Base class of listeners to a choice."""

    def on_trial(self, trial: Trial, spent_s: float, budget_s: float) -> None:
        """Handle the start of a run, given the CPU seconds so far and in all."""

    def on_row(self, row: TriedCandidate) -> None:
        """Handle the end of a run, given the new row of the table."""


class BudgetSpentError(Interrupted):
    """The CPU time of a choice is spent; the run in progress can be continued."""

    def __init__(self) -> None:
        super().__init__(SIGTERM)


class _Meter(RunListener):
    """Counts the CPU seconds of a run, and stops it when the budget is spent.

    Args:
        folder: folder of the trial, which keeps its CPU seconds, also those of earlier
            sessions.
        allowed_s: CPU seconds that are left.
    """

    def __init__(self, folder: Path, allowed_s: float) -> None:
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

    def on_step(self, step: StepReport) -> None:
        if self.seconds > self.allowed_s:
            raise BudgetSpentError

    def on_epoch_end(self, row: Epoch, scales: Any) -> None:
        self.save()


def _read_cpu_seconds(folder: Path) -> float:
    with suppress(OSError, ValueError):
        return float((folder / _CPU_FILE).read_text("utf-8"))
    return 0.0


class AutoSearch:
    """The folder RUNS/sweeps/<name>/ of a choice, with one folder for each run.

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
        self.comparison = CandidateComparison(plan.settings, plan.candidates)
        self.budget_s = plan.settings.budget_seconds
        self.stages: list[Stage] = []
        self.pool_stage: Stage | None = None

    def run(self) -> Choice:
        """Compare the candidates, until the end or until the budget is spent.

        Raises:
            Interrupted: SIGINT or SIGTERM; the same command continues.
            RequestError: the data has no validation chips, no candidate can be trained,
                or another process works on the choice.
        """
        from rsft.training.setup import open_data

        self.folder.mkdir(parents=True, exist_ok=True)
        lock = lock_run(self.folder)
        is_complete = False
        try:
            open_data(self.plan.candidates[0].recipe.data)
            if not self.plan.obstacle:
                is_complete = self._compare()
        except Interrupted as error:
            hint = "run the same command to continue"
            raise Interrupted(error.exit_code - 128, self.folder, hint) from error
        finally:
            lock.release()
        return self._choose(is_complete)

    def _compare(self) -> bool:
        """Run all stages, and return whether the budget sufficed.

        Raises:
            Interrupted: SIGINT or SIGTERM.
        """
        is_complete = True
        methods = self.plan.methods()
        pools = self.plan.pools()
        try:
            self._halve(methods)
        except BudgetSpentError:
            is_complete = False
        if not pools or not self.comparison.able(methods):
            return is_complete
        self.budget_s *= 2
        best = self.comparison.choose(self.stages, methods).candidates[0]
        twins = [x for x in methods if x != best and any(map(x.is_twin, pools))]
        self.pool_stage = Stage([best, *twins, *pools], 1.0)
        try:
            self._run_stage(self.pool_stage, self.plan.settings.folds)
        except BudgetSpentError:
            is_complete = False
        return is_complete

    def _halve(self, candidates: list[Candidate]) -> None:
        """Run the stages of successive halving.

        Raises:
            BudgetSpentError: the budget is spent.
            Interrupted: SIGINT or SIGTERM.
        """
        folds = self.plan.settings.folds
        for share, count in ((SHORT, 1), (SHORT, folds), (1.0, folds)):
            stage = Stage(candidates, share)
            self.stages.append(stage)
            self._run_stage(stage, count)
            half = FINALISTS
            if count == 1:
                half = max(FINALISTS, -(-len(candidates) // 2))
            candidates = self.comparison.rank(candidates, share)[:half]

    def _run_stage(self, stage: Stage, folds: int) -> None:
        """Try all candidates of a stage on the first folds."""
        for fold in range(1, folds + 1):
            for candidate in stage.candidates:
                self._try(candidate, fold, stage.share)

    def _try(self, candidate: Candidate, fold: int, share: float) -> None:
        """Run a candidate on a fold, or read its outcome, unless it has failed.

        Raises:
            BudgetSpentError: the budget is spent.
            Interrupted: SIGINT or SIGTERM.
        """
        comparison = self.comparison
        results = comparison.results(candidate, share)
        if fold in results or comparison.fault(candidate):
            return
        trial = candidate.trial(fold, self.plan.settings.folds, share)
        folder = self.folder / TRIALS / trial.id
        outcome = read_outcome(folder)
        if outcome:
            is_old = outcome.data != hash_data(trial.recipe.data)
            if is_old or outcome.status == "failed":
                (folder / _CPU_FILE).unlink(missing_ok=True)
                outcome = None
        if not outcome:
            outcome = self._train(trial, folder)
        results[fold] = Result(outcome, _read_cpu_seconds(folder))
        self.listener.on_row(comparison.row(candidate, share))

    def _train(self, trial: Trial, folder: Path) -> TrialOutcome:
        budget_s = self.budget_s
        spent_s = self.spent_s
        if spent_s >= budget_s:
            raise BudgetSpentError
        self.listener.on_trial(trial, spent_s, budget_s)
        write_text(folder / RECIPE, dump_recipe(trial.recipe))
        meter = _Meter(folder, budget_s - spent_s)
        try:
            return run_trial(folder, trial.keys, "macro", meter)
        finally:
            meter.save()

    @property
    def spent_s(self) -> float:
        """CPU seconds of all runs of the choice, also of earlier sessions."""
        folds = self.plan.settings.folds
        trials = set()
        for candidate in self.plan.candidates:
            for fold in range(1, folds + 1):
                trials |= {candidate.trial(fold, folds, x).id for x in (SHORT, 1.0)}
        return sum(_read_cpu_seconds(self.folder / TRIALS / id) for id in trials)

    def _choose(self, is_complete: bool) -> Choice:
        """Return the best candidate.

        Raises:
            RequestError: all candidates have failed.
        """
        comparison = self.comparison
        candidates = self.plan.methods()
        if not comparison.able(candidates):
            raise RequestError(
                f"no candidate can be trained: {self._describe_faults(candidates)}",
                candidates[0].recipe.data.root,
                "correct the data or the candidates",
            )
        ranking = comparison.choose(self.stages, candidates)
        ranking, reason = self._judge_pools(ranking)
        best = ranking.candidates[0]
        sentence = comparison.describe(ranking, is_complete)
        if self.plan.obstacle:
            sentence = (
                f"chosen without a comparison: {best.name}, because"
                f" {self.plan.obstacle}"
            )
        if reason:
            sentence += f"; unlabeled chips left out: {reason}"
        rows = comparison.rows((best.name, best.epochs(ranking.share)))
        settings = self.plan.settings
        metadata = {
            "measure": settings.measure,
            "folds": settings.folds,
            "seed": settings.seed,
            "budget": settings.budget,
            "complete": is_complete,
            "chosen": best.name,
            "unlabeled": best.takes_unlabeled,
            "sentence": sentence,
            "notes": list(self.plan.notes),
            "candidates": [asdict(row) for row in rows],
        }
        recipe = best.recipe.model_copy(update={"name": settings.name})
        return Choice(recipe, best.path, sentence, metadata)

    def _describe_faults(self, candidates: Sequence[Candidate]) -> str:
        return "; ".join(f"{x.name}: {self.comparison.fault(x)}" for x in candidates)

    def _judge_pools(self, ranking: Ranking) -> tuple[Ranking, str]:
        """Return the ranking with unlabeled chips, if they are better than without.

        Args:
            ranking: that of the methods without them.

        Returns:
            The ranking, and why unlabeled chips are left out; "" if they are not, or if
            no candidate takes them.
        """
        comparison = self.comparison
        pools = self.plan.pools()
        if not pools:
            return ranking, ""
        if self.plan.obstacle:
            return ranking, "they were not compared either"
        if not comparison.able(pools):
            return ranking, self._describe_faults(pools)
        best = ranking.candidates[0]
        compared = None
        if self.pool_stage:
            compared = comparison.rank_stage(self.pool_stage)
        if not compared or best not in compared.candidates:
            budget = self.plan.settings.budget
            return ranking, f"the budget of {budget} ended before their comparison"
        first = compared.candidates[0]
        if first.takes_unlabeled:
            return compared, ""
        pool = next(x for x in compared.candidates if x.takes_unlabeled)
        reason = (
            f"{pool.name} {comparison.accuracy(pool, compared)} instead of"
            f" {comparison.accuracy(first, compared)} in {compared.folds_text}"
        )
        if first != best:  # its twin
            methods = [x for x in compared.candidates if not x.takes_unlabeled]
            ranking = compared._replace(candidates=methods)
        return ranking, reason
