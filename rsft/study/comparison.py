"""What the candidates of a choice have reached, and which of them is the best."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from rsft.study.choice_file import AutoFile, Candidate
from rsft.study.outcomes import TrialOutcome

SHORT = 0.25
"""Share of the epochs of a candidate in its first comparisons."""


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


class Stage(NamedTuple):
    """Candidates that are compared with a share of their epochs."""

    candidates: Sequence[Candidate]
    share: float


class Result(NamedTuple):
    """The outcome of one run, and its CPU time."""

    outcome: TrialOutcome
    cpu_seconds: float


class Ranking(NamedTuple):
    """Candidates from the best to the worst, and the folds that they share."""

    candidates: list[Candidate]
    share: float
    folds: list[int]

    @property
    def folds_text(self) -> str:
        """The number of folds, such as "3 folds"."""
        count = len(self.folds)
        return "1 fold" if count == 1 else f"{count} folds"


class CandidateComparison:
    """The results of all runs by candidate, number of epochs and fold.

    Args:
        settings: measure, folds and budget.
        candidates: the candidates in the order of the file.
    """

    def __init__(self, settings: AutoFile, candidates: Sequence[Candidate]) -> None:
        self.settings = settings
        self.candidates = candidates
        self.folds = range(1, settings.folds + 1)
        self._results: dict[tuple[str, int], dict[int, Result]] = {}

    def results(self, candidate: Candidate, share: float) -> dict[int, Result]:
        """Return the results of a candidate by fold, to be read or changed."""
        key = candidate.name, candidate.epochs(share)
        return self._results.setdefault(key, {})

    def fault(self, candidate: Candidate) -> str:
        """Return why a run of a candidate failed; "" if none did."""
        short = _find_fault(self.results(candidate, SHORT))
        return short or _find_fault(self.results(candidate, 1.0))

    def able(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Return the candidates that did not fail."""
        return [x for x in candidates if not self.fault(x)]

    def rank(
        self, candidates: Sequence[Candidate], share: float, folds: Sequence[int] = ()
    ) -> list[Candidate]:
        """Return the candidates that did not fail, the best one first.

        Of equal ones, the first of the file is better.

        Args:
            candidates: the candidates in the order of the file.
            share: share of their epochs.
            folds: the folds that count; all by default.
        """

        def losses(candidate: Candidate) -> list[float]:
            results = self.results(candidate, share)
            keys = []
            for measure in (self.settings.measure, "macro"):
                values = _values(results, measure, folds or self.folds).values()
                keys.append(-statistics.fmean(values) if values else math.inf)
            return keys

        return sorted(self.able(candidates), key=losses)

    def rank_stage(self, stage: Stage) -> Ranking | None:
        """Return the ranking on the folds that all candidates of a stage finished.

        None if no fold is finished, or if all candidates failed.
        """
        compared = self.able(stage.candidates)
        done = [self.results(x, stage.share) for x in compared]
        folds = [x for x in self.folds if all(x in results for results in done)]
        if not compared or not folds:
            return None
        return Ranking(self.rank(compared, stage.share, folds), stage.share, folds)

    def choose(
        self, stages: Sequence[Stage], candidates: Sequence[Candidate]
    ) -> Ranking:
        """Return the ranking of the last stage that finished a fold for all candidates.

        If the budget ended in the first comparison, only those that have been run are
        compared.

        Args:
            stages: the stages so far.
            candidates: the candidates of the first stage, in the order of the file.
        """
        able = self.able(candidates)
        first = [x for x in able if 1 in self.results(x, SHORT)]
        for stage in (*reversed(stages), Stage(first, SHORT)):
            ranking = self.rank_stage(stage)
            if ranking:
                return ranking
        return Ranking(able, SHORT, [])

    def describe(self, ranking: Ranking, is_complete: bool) -> str:
        """Return the result in one sentence.

        Example: "chosen: LoRA, macro 84.1 ± 1.2 in 3 folds; linear probe 78.3".
        """
        best, *others = ranking.candidates
        budget = self.settings.budget
        if not ranking.folds:
            return (
                f"chosen: {best.name}, the first candidate: the budget of {budget}"
                " ended before a comparison"
            )
        accuracy = format_accuracy(*_mean_and_spread(self._reached(best, ranking)))
        sentence = (
            f"chosen: {best.name}, {self.settings.measure} {accuracy} in"
            f" {ranking.folds_text}"
        )
        ties = []
        for candidate in others:
            sentence += f"; {candidate.name} {self.accuracy(candidate, ranking)}"
            if self._is_tie(candidate, ranking):
                ties.append(candidate.name)
        if ties:
            sentence += (
                f"; not distinguishable from {', '.join(ties)}: 95 % intervals of the"
                " difference over folds contain 0"
            )
        if is_complete:
            return sentence
        if ranking.share < 1:
            sentence += " with a part of the epochs"
        return f"{sentence}; the budget of {budget} ended before the last comparison"

    def accuracy(self, candidate: Candidate, ranking: Ranking) -> str:
        """Return the mean of the measure over the folds of a ranking, in %."""
        mean, _ = _mean_and_spread(self._reached(candidate, ranking))
        return format_accuracy(mean)

    def _is_tie(self, candidate: Candidate, ranking: Ranking) -> bool:
        """Return whether the folds do not tell a candidate from the best one.

        The 95 % interval of the mean difference over folds (Student's t) contains 0.
        """
        from scipy.stats import t

        best = self._reached(ranking.candidates[0], ranking)
        other = self._reached(candidate, ranking)
        differences = {fold: best[fold] - other[fold] for fold in best if fold in other}
        mean, spread = _mean_and_spread(differences)
        if mean is None or spread is None:
            return False
        count = len(differences)
        return bool(mean <= t.ppf(0.975, count - 1) * spread / math.sqrt(count))

    def _reached(self, candidate: Candidate, ranking: Ranking) -> dict[int, float]:
        results = self.results(candidate, ranking.share)
        return _values(results, self.settings.measure, ranking.folds)

    def rows(self, chosen: tuple[str, int]) -> list[TriedCandidate]:
        """Return one row for each candidate and number of epochs that has been run.

        Args:
            chosen: name and number of epochs of the row that decided.
        """
        rows = {}
        for share in (SHORT, 1.0):
            for candidate in self.candidates:
                if self.results(candidate, share):
                    row = self.row(candidate, share)
                    key = row.candidate, row.epochs
                    rows[key] = replace(row, chosen=key == chosen)
        return list(rows.values())

    def row(self, candidate: Candidate, share: float) -> TriedCandidate:
        """Return what a candidate reached with a share of its epochs."""
        results = self.results(candidate, share)
        return TriedCandidate(
            candidate.name,
            candidate.epochs(share),
            len(results),
            *_mean_and_spread(_values(results, "macro", self.folds)),
            *_mean_and_spread(_values(results, "tail", self.folds)),
            round(sum(x.cpu_seconds for x in results.values()), 1),
            fault=_find_fault(results),
        )


def _find_fault(results: Mapping[int, Result]) -> str:
    """Return why the first failed run failed; "" if none did."""
    for result in results.values():
        if result.outcome.status != "done":
            return result.outcome.reason
    return ""


def _values(
    results: Mapping[int, Result], measure: str, folds: Sequence[int]
) -> dict[int, float]:
    """Return a measure by fold, for those of some folds that have it."""
    values = {}
    for fold in folds:
        if fold in results and measure in results[fold].outcome.metrics:
            values[fold] = results[fold].outcome.metrics[measure]
    return values


def _mean_and_spread(
    values: Mapping[int, float],
) -> tuple[float | None, float | None]:
    """Return the mean, and the standard deviation; None without enough values."""
    mean = statistics.fmean(values.values()) if values else None
    spread = statistics.stdev(values.values()) if len(values) > 1 else None
    return mean, spread


def format_accuracy(mean: float | None, spread: float | None = None) -> str:
    """Return an accuracy in %, such as "84.1 ± 1.2"; "-" without a value."""
    if mean is None:
        return "-"
    if spread is None:
        return f"{100 * mean:.1f}"
    return f"{100 * mean:.1f} ± {100 * spread:.1f}"
