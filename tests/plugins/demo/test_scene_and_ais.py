"""The tutorial from scenes and AIS messages to a classifier: all of its cells, with a
shorter training."""

import json
import re
import shlex
import tempfile
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import PIL.Image
import pytest

from rsft.data.chips.store import ChipStore
from rsft.plugins.demo.scene import SCENE_CLASSES

pytest.importorskip("rsft.plugins.ais")

DOCS = Path(__file__).parents[3] / "docs"
TUTORIAL = DOCS / "tutorials/scene_and_ais.ipynb"
SHORT = (
    "finetune quickstart name=ships data.root=data/ships meta=null train.epochs=2"
    " evaluate.every=2 --no-report"
)
"""In place of the comparison of recipes, whose result depends on the speed of the
machine."""


def cells():
    """Yield the source of every code cell."""
    for cell in json.loads(TUTORIAL.read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            yield "".join(cell["source"])


def commands(text):
    """Return the arguments of the commands in a cell of bash, or in a page."""
    return [
        shlex.split(line)
        for line in re.findall(
            r"^(?:    \$ )?rsft (.*)$", text.replace("\\\n", " "), re.MULTILINE
        )
    ]


def test_the_page_has_the_commands_of_the_tutorial():
    page = (DOCS / "analyst.md").read_text("utf-8")
    section = page[
        page.index("## From a scene and AIS") : page.index("## Classify from Python")
    ]
    assert commands(section) == [words for cell in cells() for words in commands(cell)]


def show(path, width):
    """Stand in for the pictures of Jupyter."""
    PIL.Image.open(path).verify()


@pytest.mark.slow
def test_the_tutorial(rsft, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    namespace = {"Image": show}
    events = {}
    for cell in cells():
        if not cell.startswith("%%bash"):
            exec(cell.replace("from IPython.display import Image", ""), namespace)
            continue
        for words in commands(cell):
            code, printed = rsft(
                *(SHORT.split() if words[0] == "finetune" else words), "--json"
            )
            assert code == 0, printed
            events[words[0]] = [
                json.loads(line)
                for line in printed.splitlines()
                if line.startswith("{")
            ][-1]
    assert list(events) == ["ais", "prepare", "finetune", "predict"]
    messages = pd.concat(
        [pd.read_csv(path, dtype={"MMSI": str}) for path in Path("ais").glob("*.csv")]
    )
    types = messages.groupby("MMSI")["VesselType"].first()
    check_matches(types)
    check_store(types)
    check_map(namespace["ships"], events["predict"]["truth"][0])


def check_matches(types):
    """Compare the ships that `rsft ais match` names with those that sent messages."""
    matched = geopandas.read_file("matches.gpkg", layer="matched")
    assert (
        matched["ais_class"] == matched["mmsi"].astype(str).map(types)
    ).all() and matched["mmsi"].is_unique
    assert 0.8 * pd.read_csv("ais/day1.csv")["MMSI"].nunique() <= len(matched)


def check_store(types):
    """Compare the chips of every class with the ships that sent messages, and the
    splits with the scenes."""
    table = ChipStore.open(Path("data/ships")).table
    assert (table["class"] == table["mmsi"].map(types)).all() and table[
        "mmsi"
    ].is_unique
    chips = table["class"].value_counts().sort_index()
    ships = types.value_counts().sort_index()
    assert set(chips.index) == set(SCENE_CLASSES)
    # small fishing boats are missed
    assert chips.between(0.6 * ships, ships).all(), (
        chips,
        ships,
    )
    scenes = table.groupby("group_key")["split"].unique().map(list)
    assert sorted(scenes.index) == [f"day{number}" for number in range(1, 7)]
    assert sorted(scenes) == [["train"]] * 5 + [["val"]]
    assert (table["ais_confidence"] >= 0.9).all() and set(table["unit"]) == {
        "amplitude"
    }


def check_map(ships, truth):
    """Check the columns of the map, and that the classes are better than the most
    frequent one is."""
    assert {
        "class",
        "probability",
        "corrected",
        "ais_mmsi",
        "ais_class",
        "ais_note",
    } <= set(ships)
    matched = ships[ships["ais_status"] == "matched"]
    differs = matched["class"] != matched["ais_class"]
    assert len(matched) >= 24 and set(ships["ais_status"]) <= {
        "matched",
        "no AIS",
        "ambiguous",
    }
    assert matched["ais_note"].notna().to_list() == differs.to_list()
    assert matched["ais_mmsi"].between(200_000_701, 200_000_732).all()
    assert truth["objects"] >= 30 and truth["found"] >= 28
    chance = max(SCENE_CLASSES.values()) / sum(SCENE_CLASSES.values())
    assert truth["right"] / truth["found"] > chance + 2 * np.sqrt(
        chance * (1 - chance) / truth["found"]
    )
