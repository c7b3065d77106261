"""Which candidate is the best, and the sentence that says so."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from rsft.study.choice_file import AutoFile, Candidate
from rsft.study.comparison import (
    SHORT,
    CandidateComparison,
    Result,
    Stage,
    format_accuracy,
)
from rsft.study.outcomes import TrialOutcome


@pytest.fixture
def comparison():
    """Two candidates of four epochs, compared in two folds."""
    candidates = []
    for name in ("weak", "good"):
        recipe = SimpleNamespace(name=name, train=SimpleNamespace(epochs=4))
        candidates.append(Candidate(recipe, Path(f"{name}.yaml")))
    settings = AutoFile(method="auto", name="x", folds=2)
    return CandidateComparison(settings, candidates)


def add(comparison, index, share, fold, macro):
    outcome = TrialOutcome({}, "failed", "no memory")
    if macro is not None:
        outcome = TrialOutcome({}, "done", "", {"macro": macro})
    results = comparison.results(comparison.candidates[index], share)
    results[fold] = Result(outcome, 1.5)


def test_the_last_stage_with_a_common_fold_decides(comparison):
    weak, good = comparison.candidates
    stages = [Stage([weak, good], SHORT), Stage([good, weak], 1.0)]
    assert comparison.choose(stages, comparison.candidates).folds == []
    add(comparison, 0, SHORT, 1, 0.5)
    add(comparison, 1, SHORT, 1, 0.6)
    add(comparison, 1, 1.0, 1, 0.2)
    ranking = comparison.choose(stages, comparison.candidates)
    assert (ranking.candidates, ranking.share, ranking.folds) == (
        [good, weak],
        SHORT,
        [1],
    )
    add(comparison, 0, 1.0, 1, 0.4)
    ranking = comparison.choose(stages, comparison.candidates)
    assert (ranking.candidates, ranking.share) == ([weak, good], 1.0)
    sentence = comparison.describe(ranking, is_complete=True)
    assert sentence == "chosen: weak, macro 40.0 in 1 fold; good 20.0"


@pytest.mark.parametrize(
    ("weak", "is_tie"), [((0.5, 0.3), True), ((0.30, 0.31), False)]
)
def test_the_sentence_says_whether_the_folds_tell_candidates_apart(
    comparison, weak, is_tie
):
    candidates = comparison.candidates
    for fold, values in enumerate(zip(weak, (0.50, 0.52), strict=True), 1):
        for index, value in enumerate(values):
            add(comparison, index, 1.0, fold, value)
    ranking = comparison.choose([Stage(candidates, 1.0)], candidates)
    sentence = comparison.describe(ranking, is_complete=True)
    assert ("not distinguishable from weak" in sentence) == is_tie


def test_a_candidate_that_failed_is_left_out(comparison):
    add(comparison, 0, SHORT, 1, 0.9)
    add(comparison, 0, 1.0, 2, None)
    add(comparison, 1, SHORT, 1, 0.1)
    assert comparison.fault(comparison.candidates[0]) == "no memory"
    assert comparison.rank(comparison.candidates, SHORT) == [comparison.candidates[1]]
    rows = comparison.rows(("good", 1))
    assert [(row.candidate, row.epochs, row.fault) for row in rows] == [
        ("weak", 1, ""),
        ("good", 1, ""),
        ("weak", 4, "no memory"),
    ]
    assert [row.chosen for row in rows] == [False, True, False]
    assert [row.cpu_seconds for row in rows] == [1.5] * 3


def test_accuracies_are_in_percent():
    assert format_accuracy(None) == "-" and format_accuracy(0.5) == "50.0"
    assert format_accuracy(0.8412, 0.0123) == "84.1 ± 1.2"
