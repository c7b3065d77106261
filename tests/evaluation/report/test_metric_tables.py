"""Tables and sentences with the numbers of an evaluation."""

import pandas as pd
import pytest

from rsft.evaluation.report.metric_tables import (
    describe_result,
    headline_numbers,
    measure_rows,
    recall_interval,
)
from rsft.evaluation.schema import Evaluation
from rsft.recipe.load import load_recipe
from tests.helpers.fake_run import SHIPS, change_metrics, read_metrics, write_fake_run
from tests.helpers.report_page import page_of


@pytest.fixture
def gaining(tmp_path):
    """Return a run that gains in the tail and loses in the head."""
    folder = write_fake_run(tmp_path, SHIPS)
    values = {
        "MetaLoRA": {
            "micro": 0.545,
            "macro": 0.485,
            "head": 0.71,
            "medium": None,
            "tail": 0.38,
        },
        "logit-adjusted linear probe": {
            "micro": 0.51,
            "macro": 0.45,
            "head": 0.67,
            "medium": None,
            "tail": 0.35,
        },
        "plain k-NN": {
            "micro": 0.465,
            "macro": 0.37,
            "head": 0.92,
            "medium": None,
            "tail": 0.01,
        },
    }
    template = read_metrics(folder)["methods"]["MetaLoRA"]
    methods = {}
    for name, numbers in values.items():
        intervals = {
            key: x and {"value": x, "low": x - 0.05, "high": x + 0.05}
            for key, x in numbers.items()
        }
        methods[name] = template | intervals
    change_metrics(folder, methods=methods)
    return folder


@pytest.fixture
def evaluation(gaining):
    return Evaluation.model_validate(read_metrics(gaining))


def test_the_first_screen_has_two_sentences_and_four_numbers(gaining):
    page = page_of(gaining)
    header = " ".join(page.sections["header"].split())
    assert (
        "This run trained LoRA with learned scales and the classifier head on 509 chips"
        " of 4 classes, with the frozen encoder vit_tiny_patch8_64.simship. It"
        " classifies 54.5 % of 1,200 test chips correctly; its macro accuracy is 48.5"
        " %, 3.5 points above the best baseline (logit-adjusted linear probe)."
        in header
    )
    words = ["It classifies", "Head", "Started"]
    assert sorted(words, key=header.index) == words


def test_stored_differences_have_their_paired_interval(gaining):
    gain = {"value": 0.035, "low": 0.01, "high": 0.06}
    change_metrics(
        gaining,
        differences={"logit-adjusted linear probe": {"micro": gain, "macro": gain}},
    )
    header = " ".join(page_of(gaining).sections["header"].split())
    assert "3.5 points above the best baseline (logit-adjusted linear probe)." in header
    change_metrics(
        gaining,
        differences={"logit-adjusted linear probe": {"macro": gain | {"low": -0.01}}},
    )
    assert "linear probe; this may be chance)." in " ".join(
        page_of(gaining).sections["header"].split()
    )


def test_a_baseline_that_answers_one_class_always_is_named(gaining):
    methods = read_metrics(gaining)["methods"]
    quarter = {"value": 0.25, "low": 0.25, "high": 0.25}
    precision = [0.8, None, None, None]  # only cargo is predicted
    methods["plain k-NN"] |= {"macro": quarter, "precision": precision}
    change_metrics(gaining, methods=methods)
    header = " ".join(page_of(gaining).sections["header"].split())
    assert (
        "linear probe). The plain k-NN answers cargo for every chip (macro"
        " accuracy 25.0 %)." in header
    )
    assert "linear probe answers" not in header


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["meta=null"],
            (
                "trained LoRA and the classifier head on 509 chips of 4 classes, with"
                " the frozen encoder"
            ),
        ),
        (
            ["meta=null", "peft={method: linear-probe}"],
            "trained only the classifier head on 509 chips",
        ),
        (
            ["meta=null", "peft={method: full}"],
            "trained all weights on 509 chips of 4 classes, with the encoder",
        ),
    ],
)
def test_the_first_sentence_says_what_was_trained(
    gaining, evaluation, overrides, words
):
    trained, result = describe_result(
        evaluation, load_recipe(gaining / "recipe.yaml", overrides)
    )
    assert words in trained and result.startswith("It classifies 54.5 % of")


def numbers(gaining, **changes):
    metrics = read_metrics(gaining)
    name = next(iter(metrics["methods"]))
    values = {
        key: x if x is None else {"value": x, "low": x, "high": x}
        for key, x in changes.items()
    }
    metrics["methods"][name] |= values
    rows = headline_numbers(Evaluation.model_validate(metrics))
    return {label: value for label, value, _ in rows}


def test_the_first_numbers(gaining):
    groups = {"head": 0.71, "tail": 0.38}
    rows = numbers(gaining, micro=0.545, **groups)
    assert list(rows) == ["Overall", "Head", "Tail", "Weakest class"]
    rows = numbers(gaining, micro=0.6, medium=0.5, **groups)
    assert rows == {"Overall": "60.0", "Head": "71.0", "Medium": "50.0", "Tail": "38.0"}
    rows = numbers(gaining, micro=0.6, head=None, medium=0.6, tail=None)
    assert list(rows) == ["Overall", "Medium", "Weakest class"]


def test_one_row_per_measure_that_is_defined(evaluation):
    rows = {label: cells for label, _, cells in measure_rows(evaluation)}
    assert "Medium" not in rows
    assert [cell.value for cell in rows["Tail"]] == ["38.0", "35.0", "1.0"]
    assert [cell.value for cell in rows["Overall"]] == ["54.5", "51.0", "46.5"]


def test_the_interval_of_a_recall_is_that_of_wilson(evaluation):
    low, high = map(float, recall_interval(evaluation, 0).split("–"))
    hits = evaluation.confusion[0][0]
    count = sum(evaluation.confusion[0])
    z = 1.959964
    center = (hits + z**2 / 2) / (count + z**2)
    spread = z / (count + z**2) * (hits * (count - hits) / count + z**2 / 4) ** 0.5
    assert (low, high) == pytest.approx(
        (100 * (center - spread), 100 * (center + spread)), abs=0.051
    )


@pytest.mark.slow
def test_costs(gaining):
    page = page_of(gaining)
    assert "74,304 of 2,861,000" in page.sections["cost"]
    assert "912.0 MB" in page.sections["cost"]
    table = pd.read_csv(gaining / "metrics.csv").drop(columns=["memory_mb", "gpu_mb"])
    table.to_csv(gaining / "metrics.csv", index=False)
    assert "Peak memory" not in page_of(gaining).sections["cost"]
