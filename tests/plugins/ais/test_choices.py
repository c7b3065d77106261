"""Ships that a reviewer chooses for ambiguous objects."""

from __future__ import annotations

import json
import re

import pytest

from rsft.errors import RequestError
from rsft.plugins.ais.choice_page import write_choice_page
from rsft.plugins.ais.job import (
    match_scene,
)
from rsft.plugins.ais.match import AisOptions

pytestmark = pytest.mark.slow


def ambiguous_match(traffic, **options):
    """Match two objects to one ship in the middle between them, and a third object to
    the ship at its place."""
    row, col = traffic.places[219000001]
    other = traffic.places[219000003]
    positions = traffic.ais.with_name("at.csv")
    positions.write_text(
        f"row,col\n{row},{col - 2}\n{row},{col + 2}\n{other[0]},{other[1]}\n"
    )
    return match_scene(
        traffic.scene, [traffic.ais], AisOptions(**options), at=positions
    )


def saved(folder, page, *choices):
    """Save choices (chip, class, verdict) as the page does, with the row and column
    that the page has."""
    data = json.loads(
        re.search(
            r'<script id="data" type="application/json">(.*?)</script>',
            page.read_text(),
        )[1]
    )
    chips = {chip["chip"]: chip for chip in data["chips"]}
    lines = [
        f'"","{label}","{verdict}",{chips[name]["row"]},{chips[name]["col"]},"{name}"'
        for name, label, verdict in choices
    ]
    path = folder / "corrected.csv"
    path.write_text("\r\n".join(["path,class,verdict,row,col,chip", *lines]))
    return path, data


def test_a_reviewer_chooses_the_ships_of_ambiguous_objects(traffic, tmp_path):
    match = ambiguous_match(traffic)
    assert match.objects["status"].tolist() == ["ambiguous", "ambiguous", "matched"]
    page = tmp_path / "page.html"
    assert write_choice_page(match, page, "rsft ais match x")
    first, second, _ = match.objects["object"]
    ship = "219000001 fishing 120 m SHIP 1"
    choices, data = saved(
        tmp_path, page, (first, ship, "class"), (second, "no AIS", "class")
    )
    assert [kind["name"] for kind in data["classes"]] == [ship, "no AIS"]
    chip = data["chips"][0]
    assert (
        chip["class"] == ship
        and "another object" in chip["attributes"]["reason"]
        and len(chip["all"]) == 2
    )
    assert (
        "rsft ais match x" in page.read_text()
        and "rsft data add" not in page.read_text()
    )
    reviewed = ambiguous_match(traffic, review=choices)
    assert reviewed.objects["status"].tolist() == ["matched", "no AIS", "matched"]
    assert (
        reviewed.objects["confidence"].tolist()[0] == 1
        and reviewed.objects["mmsi"].tolist()[0] == 219000001
    )
    assert reviewed.objects["reason"].tolist()[:2] == ["chosen in the review"] * 2
    assert "ships chosen in the review: 2 objects" in reviewed.notes
    none, _ = saved(tmp_path, page, (first, "", "not a target"), (second, "", "unsure"))
    # the other object is the only one for the ship
    reviewed = ambiguous_match(traffic, review=none)
    assert reviewed.objects["status"].tolist() == ["no AIS", "matched", "matched"]
    assert (
        not write_choice_page(reviewed, tmp_path / "none.html", "rsft")
        and not (tmp_path / "none.html").exists()
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("219000001", "219000003", "219000003 is no candidate"),
        ("219000001", "ship", "is no ship"),
        ("no AIS", "219000001", "chosen for two objects"),
        ("_0000", "_9000", "not at the same place"),
        (",chip", ",name", "row without a chip"),
    ],
)
def test_choices_that_cannot_be_used(traffic, tmp_path, old, new, message):
    match = ambiguous_match(traffic)
    page = tmp_path / "page.html"
    write_choice_page(match, page, "rsft")
    first, second, _ = match.objects["object"]
    path, _ = saved(
        tmp_path,
        page,
        (first, "219000001 fishing", "class"),
        (second, "no AIS", "class"),
    )
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(RequestError, match=message) as caught:
        ambiguous_match(traffic, review=path)
    assert caught.value.location == str(path) and caught.value.hint
