"""The section on gained and lost chips of a run that started at a bundle."""

import json

import pytest

from rsft.errors import DataError
from rsft.recipe.load import dump_recipe, load_recipe
from rsft.training.runs.replay_check import ADDED, VALIDATION, ClassReplay, PartReplay, Replay
from tests.helpers.fake_run import write_fake_run
from tests.helpers.messages import mentions
from tests.helpers.report_page import page_of

SHIPS = ["cargo", "fishing", "tanker"]
CARGO = ClassReplay("cargo<b>", 1400, 0.9, 0.5, 1, 17, 1e-4)
NEW = ClassReplay("dredger", 4, None, 1.0, 4, 0, 0.25)
CHECK = Replay(
    "x", "y", (PartReplay(VALIDATION, (CARGO, NEW), 0.9, 0.5, 0.003), PartReplay(ADDED, (NEW,), None, None, 0.25))
)


@pytest.fixture
def run(tmp_path):
    """Write a run that started at a bundle."""
    folder = write_fake_run(tmp_path, SHIPS)
    recipe = load_recipe(folder / "recipe.yaml")
    train = recipe.train.model_copy(update={"start_bundle": "runs/ships/001/bundle"})
    (folder / "recipe.yaml").write_text(dump_recipe(recipe.model_copy(update={"train": train})))
    metadata = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(metadata | {"start": {"bundle": "runs/<ships>/001"}}))
    (folder / "replay.json").write_text(json.dumps(CHECK.to_dict()))
    return folder


def test_the_section_is_the_first_and_explains_its_terms(run):
    page = page_of(run)
    assert list(page.sections)[:2] == ["header", "replay"]
    text = page.sections["replay"]
    assert "runs/<ships>/001" in text and "Cargo<b> lost 17 and gained 1 of 1,400 validation chips" in text
    assert "Added training chips: 4 of 4 right, 0 before." in text
    assert "p: the probability that chance alone" in text and "Recall: the share" in text and "Replay check: " in text
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
def test_a_missing_check_is_said_and_a_damaged_one_is_an_error(run):
    (run / "replay.json").unlink()
    assert "replay.json is missing" in page_of(run).sections["replay"]
    (run / "replay.json").write_text('{"parts": 1}')
    with pytest.raises(DataError, match=mentions("damaged")):
        page_of(run)


@pytest.mark.slow
def test_other_runs_have_no_section(tmp_path):
    run = write_fake_run(tmp_path, SHIPS)
    (run / "replay.json").write_text(json.dumps(CHECK.to_dict()))
    assert "replay" not in page_of(run).sections


@pytest.mark.slow
def test_the_recipe_names_the_bundle_if_run_json_does_not(run):
    metadata = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(metadata | {"start": {}}))
    assert "the bundle runs/ships/001/bundle" in page_of(run).sections["replay"]
