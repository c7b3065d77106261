import json

import pytest

from rsft.evaluation.report.metric_tables import best_baseline, gains_and_losses, method_rows, summary_sentences
from rsft.evaluation.schema import Evaluation
from rsft.recipe.load import load_recipe
from tests.helpers.fake_run import write_fake_run
from tests.helpers.report_page import page_of

SHIPS = ["cargo", "fishing", "tanker", "dredger"]
SPACE = "\N{NO-BREAK SPACE}"


@pytest.fixture
def run(tmp_path):
    """Return a run that gains in the tail and loses in the head."""
    folder = write_fake_run(tmp_path, SHIPS)
    path = folder / "evaluation/metrics.json"
    metrics = json.loads(path.read_text())
    values = {
        "MetaLoRA": {"micro": 0.545, "head": 0.71, "medium": None, "tail": 0.38},
        "logit-adjusted linear probe": {"micro": 0.51, "head": 0.67, "medium": None, "tail": 0.35},
        "plain k-NN": {"micro": 0.465, "head": 0.92, "medium": None, "tail": 0.01},
    }
    template = metrics["methods"]["MetaLoRA"]
    metrics["methods"] = {
        name: template | {key: x and {"value": x, "low": x - 0.05, "high": x + 0.05} for key, x in numbers.items()}
        for name, numbers in values.items()
    }
    path.write_text(json.dumps(metrics))
    return folder


@pytest.fixture
def evaluation(run):
    return Evaluation.model_validate_json((run / "evaluation/metrics.json").read_text())


def test_the_lead_names_gains_losses_and_the_best_baseline_of_every_group(evaluation):
    overall, head, tail, _ = summary_sentences(evaluation)
    assert overall == (
        f"MetaLoRA classifies 54.5{SPACE}% of 1,200 test chips correctly, 3.5 points above the best baseline "
        "(logit-adjusted linear probe; the intervals overlap)."
    )
    assert head == (
        f"The mean recall of the head classes is 71.0{SPACE}%, 21.0 points below the best baseline (plain k-NN)."
    )
    assert tail == (
        f"For the tail classes, it is 38.0{SPACE}%, 3.0 points above the best baseline (logit-adjusted linear probe; "
        "the intervals overlap)."
    )
    assert best_baseline(evaluation, "medium") is None


def test_every_baseline_has_its_differences(evaluation):
    assert gains_and_losses(evaluation) == [
        ("logit-adjusted linear probe", "overall +3.5, head +4.0, tail +3.0"),
        ("plain k-NN", "overall +8.0, head \N{MINUS SIGN}21.0, tail +37.0"),
    ]


def test_the_page_shows_both(run):
    header = page_of(run).sections["header"]
    assert "plain k-NN: overall +8.0, head \N{MINUS SIGN}21.0, tail +37.0" in header
    assert "21.0 points below the best baseline, plain k-NN" in header


@pytest.mark.parametrize(
    ("overrides", "last", "meaning"),
    [
        ([], "LoRA and its scales add", "This run: LoRA with learned scales and the classifier head."),
        (["meta=null"], "LoRA adds", "This run: LoRA and the classifier head."),
        (
            ["meta=null", "peft={method: linear-probe}"],
            "MetaLoRA",
            "This run: the classifier head, trained on frozen features.",
        ),
    ],
)
def test_one_row_says_what_the_trained_modules_add(run, evaluation, overrides, last, meaning):
    rows = method_rows(evaluation, load_recipe(run / "recipe.yaml", overrides))
    assert [row[0] for row in rows[:3]] == ["plain k-NN", "logit-adjusted linear probe", "MetaLoRA"]
    assert rows[-1][0] == last and rows[2][1] == meaning and all(row[1] for row in rows)
    assert [cell.best for cell in rows[0][2]] == [False, True, True, False]
