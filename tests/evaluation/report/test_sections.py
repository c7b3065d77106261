import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rsft.errors import DataError
from rsft.evaluation.report.dataset import MAX_MISTAKES, MAX_UNSURE, make_gallery
from rsft.evaluation.report.pages import write_report
from rsft.recipe.load import dump_recipe, load_recipe
from rsft.training.runs.replay_file import (
    ADDED,
    VALIDATION,
    ClassReplay,
    PartReplay,
    Replay,
)
from tests.helpers.fake_run import SHIPS, change_metrics, read_metrics, write_fake_run
from tests.helpers.messages import mentions
from tests.helpers.report_page import page_of

COLORS = Path(write_report.__code__.co_filename).parent / "assets/style/colors.css"


@pytest.fixture
def run(tmp_path):
    return write_fake_run(tmp_path, SHIPS)


def predictions(run):
    return pd.read_parquet(run / "evaluation/predictions.parquet")


def test_accuracies_of_leaking_chips_are_marked(run):
    assert "*" not in "".join(page_of(run).sections.values())
    leaks = {"chips": 9, "identical": 9, "group": 0, "vessel": 0}
    change_metrics(run, leaks=leaks, notes=["* 9 of 60 test chips leak"])
    sections = page_of(run).sections
    assert "* 9 of 60 test chips leak" in sections["header"]
    assert len(re.findall(r"\d\.\d\*", "".join(sections.values()))) > 10


def test_coverage_is_shown_by_group_beside_its_target(run):
    expected = read_metrics(run)["confidence"]["coverage"][1]["groups"]["tail"]
    page = page_of(run)
    rows = {(row[0], row[1]): row[2:] for row in page.tables[-1][1:]}
    row = rows["90 %", "tail"]
    assert row[0] == f"{100 * expected['value']:.1f}" and row[2] == "below target"
    assert row[3] == f"{expected['size']:.2f}" and row[5] == "600"
    assert (
        "At 90 %, every set contains dredger: too few validation chips."
        in page.sections["confidence"]
    )


@pytest.mark.slow
def test_coverage_is_shown_by_scene(run):
    assert "Sets for 90 % by group" not in page_of(run).sections["confidence"]
    coverage = {
        "value": 0.77,
        "low": 0.69,
        "high": 0.84,
        "size": 1.9,
        "single": 0.4,
        "chips": 124,
    }
    scene = {
        "accuracy": 0.41,
        "confidence": 0.76,
        "coverage": coverage,
        "ood_share": 0.1,
    }
    scenes = [
        scene
        | {
            "group": f"S1 {n}",
            "shifted": ["distance", "classes"] if n == 0 else [],
        }
        for n in range(25)
    ]
    change_metrics(run, confidence=read_metrics(run)["confidence"] | {"scenes": scenes})
    page = page_of(run)
    assert "such as scene: the 20 largest of 25" in page.sections["confidence"]
    assert len(page.tables[-1]) == 21
    assert page.tables[-1][1] == [
        "S1 0",
        "124",
        "41.0",
        "76.0",
        "77.0",
        "69.0–84.0",
        "10.0",
        "distance and classes",
    ]


def test_a_bundle_without_calibration(run):
    change_metrics(run, confidence=None, notes=[])
    sections = page_of(run).sections
    assert (
        "The bundle has no calibration" in sections["confidence"]
        and "Reliability" in sections["confidence"]
    )
    assert "notes" not in sections["method"]


def test_the_gallery_has_the_most_confident_mistakes_and_the_least_confident_predictions(
    run,
):
    table = predictions(run)
    gallery = make_gallery(table, SHIPS, None)
    wrong = table[table["class"] != table["predicted"]]
    confidence = table[[f"p_{name}" for name in SHIPS]].max(axis=1)
    mistakes = [chip for chip in gallery["chips"] if "mistake" in chip["kinds"]]
    assert gallery["mistakes"] == len(wrong) and len(mistakes) == MAX_MISTAKES
    assert mistakes[0]["name"] == table.loc[confidence[wrong.index].idxmax(), "name"]
    assert all(chip["class"] != chip["predicted"] for chip in mistakes)
    unsure = {chip["name"] for chip in gallery["chips"] if "unsure" in chip["kinds"]}
    assert unsure == set(table.loc[confidence.nsmallest(MAX_UNSURE).index, "name"])


def test_the_gallery_shows_class_sets_and_out_of_distribution_scores(run):
    table = predictions(run)
    row = table[table["class"] != table["predicted"]].index[0]
    table.loc[row, [f"p_{name}" for name in SHIPS]] = [0.0, 0.0, 0.0, 0.0]
    table.loc[row, f"p_{table.loc[row, 'predicted']}"] = 1.0
    table.at[row, "class_set"] = np.array(["cargo", "tanker", "dredger"])
    table.loc[row, "ood"] = 1.46
    table.to_parquet(run / "evaluation/predictions.parquet")
    text = page_of(run).sections["gallery"]
    assert (
        "class set: cargo, tanker or dredger" in text
        and "unlike the training chips (1.5)" in text
    )


def luminance(color):
    channels = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colors_have_enough_contrast(scheme):
    """WCAG 2.2: 4.5:1 for text and 3:1 for markers against their background."""
    blocks = COLORS.read_text().split("@media")
    colors = dict(re.findall(r"--(\w+): (#\w{6})", blocks[scheme]))
    assert len(colors) == 24

    def contrast(one, other):
        light, dark = sorted(
            (luminance(colors[one]), luminance(colors[other])), reverse=True
        )
        return (light + 0.05) / (dark + 0.05)

    for background in ("page", "paper"):
        assert (
            min(
                contrast(name, background)
                for name in ("ink", "muted", "accent", "head", "medium", "tail")
            )
            >= 4.5
        )
        assert min(contrast(f"c{number}", background) for number in range(8)) >= 3
    assert contrast("ink", "warning") >= 4.5


CARGO = ClassReplay("cargo<b>", 1400, 0.9, 0.5, 1, 17, 1e-4)
NEW = ClassReplay("dredger", 4, None, 1.0, 4, 0, 0.25)
PARTS = (
    PartReplay(VALIDATION, (CARGO, NEW), 0.9, 0.5, 0.003),
    PartReplay(ADDED, (NEW,), None, None, 0.25),
)
CHECK = Replay("x", "y", PARTS)


@pytest.fixture
def replayed(tmp_path):
    """Write a run that started at a bundle."""
    folder = write_fake_run(tmp_path, SHIPS[:3])
    recipe = load_recipe(folder / "recipe.yaml")
    train = recipe.train.model_copy(update={"start_bundle": "runs/ships/001/bundle"})
    (folder / "recipe.yaml").write_text(
        dump_recipe(recipe.model_copy(update={"train": train}))
    )
    metadata = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(
        json.dumps(metadata | {"start": {"bundle": "runs/<ships>/001"}})
    )
    (folder / "replay.json").write_text(json.dumps(CHECK.to_dict()))
    return folder


def test_the_section_is_the_first_and_explains_its_terms(replayed):
    page = page_of(replayed)
    assert list(page.sections)[:2] == ["header", "replay"]
    text = page.sections["replay"]
    assert (
        "runs/<ships>/001" in text
        and "Cargo<b> lost 17 and gained 1 of 1,400 validation chips" in text
    )
    assert "Added training chips: 4 of 4 right, 0 before." in text
    assert (
        "p: the probability that chance alone" in text
        and "Recall: the share" in text
        and "Replay check: " in text
    )
    assert "lost more than chance explains" in text
    assert page.tables[0] == [
        ["Class", "Chips", "Before %", "After %", "Gained", "Lost", "p"],
        ["cargo<b>", "1,400", "90.0", "50.0", "1", "17", "0.0001"],
        ["dredger", "4", "–", "100.0", "4", "0", "0.25"],
        ["All (mean recall)", "1,404", "90.0", "50.0", "5", "17", "0.003"],
    ]
    assert page.tables[1][1] == ["dredger", "4", "–", "100.0", "4", "0", "0.25"]
    assert {"#replay"} <= {attrs["href"] for attrs in page.all("a")}


@pytest.mark.slow
def test_a_missing_check_is_said_and_a_damaged_one_is_an_error(replayed):
    (replayed / "replay.json").unlink()
    assert "replay.json is missing" in page_of(replayed).sections["replay"]
    (replayed / "replay.json").write_text('{"parts": 1}')
    with pytest.raises(DataError, match=mentions("damaged")):
        page_of(replayed)
