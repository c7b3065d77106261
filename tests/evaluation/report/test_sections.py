import json
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from rsft.evaluation.report.charts.cost import phase_bar
from rsft.evaluation.report.charts.coverage import coverage_plot
from rsft.evaluation.report.charts.reliability import reliability_bins
from rsft.evaluation.report.charts.svg import SHAPES, log_ticks, marker
from rsft.evaluation.report.charts.tsne_map import TOLD_APART, ChipMap
from rsft.evaluation.report.recipe_text import LOSSES, POOLS, SAMPLERS, STARTS, describe
from rsft.evaluation.report.run_page import write_report
from rsft.evaluation.report.schema import Evaluation, Sets, Trust
from rsft.evaluation.report.sections.gallery import MISTAKES, UNSURE, make_gallery
from rsft.metrics.calibration import expected_calibration_error
from rsft.recipe import schema
from rsft.recipe.load import load_recipe
from tests.helpers.fake_run import write_fake_run
from tests.helpers.report_page import page_of

SHIPS = ["cargo", "fishing", "tanker", "dredger"]
COLOURS = Path(write_report.__code__.co_filename).parent / "assets/style/colours.css"


@pytest.fixture
def run(tmp_path):
    return write_fake_run(tmp_path, SHIPS)


def predictions(run):
    return pd.read_parquet(run / "evaluation/predictions.parquet")


def test_every_choice_of_a_recipe_has_words():
    assert set(LOSSES) == set(schema.LOSSES)
    assert set(POOLS) == set(get_args(schema.Backbone.model_fields["pool"].annotation))
    assert set(STARTS) == set(get_args(schema.Head.model_fields["init"].annotation))
    assert set(SAMPLERS) == set(get_args(schema.Train.model_fields["sampler"].annotation))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["loss.name=ldam", "loss.defer=0.8"], "LDAM (margin 0.5, scale 25), classes weighted after 80% of training"),
        (
            ["meta.schedule=joint", "meta.round=3"],
            "both gradients of one pass, on a meta subset of 20% of the training",
        ),
        (["meta.round=3"], "drawn anew every 3 epochs"),
        (["meta=null", "peft.scale=2"], "No modulator: every module's output is multiplied by 2"),
        (["peft.rank={blocks.*.q: 8}"], 'rank {"blocks.*.q": 8} beside'),
        (["peft.method=linear-probe", "meta=null"], "Linear probe of the frozen"),
        (["head.init=k-shot", "head.shots=5"], "the means of 5 frozen features a class"),
        (["train.sampler=square-root", "train.clip_norm=1"], "drawn by the root of class frequency (cosine schedule, "),
        (["data.crop=48"], "Input: the middle 48 px at 64 x 64."),
    ],
)
def test_a_recipe_in_words(tmp_path, overrides, words):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data: {root: chips, size: 64}\nmeta: {}\ntrain: {epochs: 2}\n")
    assert words in " ".join(describe(load_recipe(recipe, overrides)))


def test_the_bins_are_those_of_the_calibration_error(run):
    table = predictions(run)
    bins = reliability_bins(table, SHIPS)
    gap = sum(abs(found.hits - found.confidence * found.chips) for found in bins) / len(table)
    labels = table["class"].map(SHIPS.index).to_numpy()
    assert gap == pytest.approx(expected_calibration_error(table[[f"p_{n}" for n in SHIPS]].to_numpy(), labels))
    assert sum(found.chips for found in bins) == len(table) == 1200


def test_coverage_is_told_by_group_and_beside_what_was_asked(run):
    metrics = json.loads((run / "evaluation/metrics.json").read_text())
    expected = metrics["confidence"]["coverage"][1]["groups"]["tail"]
    page = page_of(run)
    rows = {(row[0], row[1]): row[2:] for row in page.tables[-1][1:]}
    found = rows["90 %", "tail"]
    assert found[0] == f"{100 * expected['value']:.1f}" and found[2] == "less than asked"
    assert found[3] == f"{expected['size']:.2f}" and found[5] == "600"
    assert "At 90 %, in every set for want of validation chips: dredger." in page.sections["confidence"]


@pytest.mark.parametrize(("low", "first"), [(0.78, "50"), (0.4, "0")])
def test_the_axis_of_coverage_begins_where_nothing_is_lost(low, first):
    found = {"value": 0.85, "low": low, "high": 0.9, "size": 1.5, "single": 0.5, "chips": 30}
    sets = Sets.model_validate({"asked": 0.8, "groups": {"all": found}, "by_class": [0.85], "scarce": []})
    trust = Trust.model_construct(coverage=[sets])
    numbers = re.findall(r">(\d+)</text>", coverage_plot(trust))
    assert (numbers[0], numbers[-1], len(numbers)) == (first, "100", 6)


def test_without_confidence_it_is_said(run):
    path = run / "evaluation/metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"confidence": None, "distances": {}, "notes": []}))
    sections = page_of(run).sections
    assert "The bundle has no confidence" in sections["confidence"] and "Reliability" in sections["confidence"]
    assert "cosine distance: how" not in sections["features"] and "What to know" not in sections["header"]


def test_the_gallery_has_the_surest_mistakes_and_the_least_confident(run):
    table = predictions(run)
    gallery = make_gallery(table, SHIPS, None)
    wrong = table[table["class"] != table["predicted"]]
    confidence = table[[f"p_{name}" for name in SHIPS]].max(axis=1)
    mistakes = [found for found in gallery.exhibits if "mistake" in found.kinds]
    assert gallery.mistakes == len(wrong) and len(mistakes) == MISTAKES
    assert mistakes[0].name == table.loc[confidence[wrong.index].idxmax(), "name"]
    assert all(found.truth != found.predicted for found in mistakes)
    unsure = {found.name for found in gallery.exhibits if "unsure" in found.kinds}
    assert unsure == set(table.loc[confidence.nsmallest(UNSURE).index, "name"])
    first = table.set_index("name").loc[mistakes[0].name]
    assert mistakes[0].truth_share == f"{100 * first['p_' + first['class']]:.1f}"


def test_where_there_are_too_many_mistakes_every_class_has_some(tmp_path):
    classes = [f"class {index}" for index in range(60)]
    gallery = make_gallery(predictions(write_fake_run(tmp_path, classes)), classes, None)
    shown = [found.truth for found in gallery.exhibits if "mistake" in found.kinds]
    assert len(shown) == MISTAKES < gallery.mistakes
    assert max(map(shown.count, set(shown))) <= 3 and len(set(shown)) > 50


def test_a_strange_chip_and_a_set_are_said(run):
    table = predictions(run)
    row = table[table["class"] != table["predicted"]].index[0]
    table.loc[row, [f"p_{name}" for name in SHIPS]] = [0.0, 0.0, 0.0, 0.0]
    table.loc[row, f"p_{table.loc[row, 'predicted']}"] = 1.0
    table.at[row, "set"], table.loc[row, "ood"] = np.array(["cargo", "tanker", "dredger"]), 1.46
    table.to_parquet(run / "evaluation/predictions.parquet")
    text = page_of(run).sections["gallery"]
    assert "may be cargo, tanker or dredger" in text and "unlike the training chips (1.5)" in text


def test_predictions_of_an_older_run_have_neither_sets_nor_strangeness(run):
    predictions(run).drop(columns=["set", "ood"]).to_parquet(run / "evaluation/predictions.parquet")
    text = page_of(run).sections["gallery"]
    assert "taken for" in text and "may be" not in text and "unlike" not in text


def test_the_map_has_every_chip_and_tells_which_are_wrong(run):
    embedding = pd.read_parquet(run / "evaluation/embedding.parquet")
    evaluation = Evaluation.model_validate(json.loads((run / "evaluation/metrics.json").read_text()))
    found = ChipMap(embedding, evaluation, predictions(run))
    data = found.data(pictured=False)
    truth = predictions(run).set_index("path").loc[embedding["path"]]
    assert [SHIPS[chip[4]] for chip in data["chips"]] == truth["class"].tolist()
    assert [SHIPS[chip[5]] for chip in data["chips"]] == truth["predicted"].tolist()
    assert np.array(data["chips"])[:, :4].min() >= 0 and np.array(data["chips"])[:, :4].max() <= 460
    wrong = re.findall(r'<path d="([^"]*)" class="c\d wrong"', "".join(map(str, found.figures())))
    assert sum(path.count("M") for path in wrong) == 2 * (truth["class"] != truth["predicted"]).sum()


def test_classes_have_marks_of_their_own_as_long_as_there_are_enough(tmp_path):
    for count in (TOLD_APART, TOLD_APART + 1):
        run = write_fake_run(tmp_path / str(count), [f"class {index}" for index in range(count)])
        evaluation = Evaluation.model_validate(json.loads((run / "evaluation/metrics.json").read_text()))
        found = ChipMap(pd.read_parquet(run / "evaluation/embedding.parquet"), evaluation, None)
        marks = {found.mark(index) for index in range(count)}
        assert len(marks) == len(found.legend()) == (count if count == TOLD_APART else 3)


def test_cost(run):
    page = page_of(run)
    assert "74,304 of 2,861,000 (2.6%)" in page.sections["cost"] and "912.0 MB" in page.sections["cost"]
    assert "inner loop: 61%" in page.sections["cost"]
    table = pd.read_csv(run / "metrics.csv").drop(columns=["data_s", "inner_s", "outer_s", "memory_mb", "gpu_mb"])
    assert phase_bar(table) is None
    table.to_csv(run / "metrics.csv", index=False)
    assert "was not measured" in page_of(run).sections["cost"]


def test_log_ticks_span_the_values():
    assert log_ticks(1, 400) == pytest.approx([1, 10, 100, 1000])
    assert log_ticks(98, 392) == pytest.approx([50, 100, 200, 500])
    assert log_ticks(3, 3) == pytest.approx([2, 5])


def test_marks_differ_by_shape():
    assert len({re.sub(r"M[-\d. ]+", "", marker(shape, 10, 10, 4)) for shape in range(SHAPES)}) == SHAPES


def luminance(colour):
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_read(scheme):
    """WCAG 2.2: text 4.5:1 and marks 3:1 against what they stand on."""
    blocks = COLOURS.read_text().split("@media")
    colours = dict(re.findall(r"--(\w+): (#\w{6})", blocks[scheme]))
    assert len(colours) == 25

    def contrast(one, other):
        light, dark = sorted((luminance(colours[one]), luminance(colours[other])), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    for ground in ("page", "paper"):
        assert min(contrast(name, ground) for name in ("ink", "muted", "accent", "head", "medium", "tail")) >= 4.5
        assert min(contrast(f"c{number}", ground) for number in range(8)) >= 3
    assert contrast("ink", "warning") >= 4.5
