"""Status and reason of objects and ships."""

from __future__ import annotations

import pytest

from rsft.plugins.ais.job import (
    match_scene,
)
from rsft.plugins.ais.match import AisOptions
from tests.plugins.ais.conftest import SHIPS

pytestmark = pytest.mark.slow


def test_uncertain_pairs_are_set_aside(traffic):
    """Two objects, and one ship in the middle between them: neither gets it, and both
    say so."""
    row, col = traffic.places[219000001]
    positions = traffic.ais.with_name("at.csv")
    positions.write_text(f"row,col\n{row},{col - 2}\n{row},{col + 2}\n")
    match = match_scene(traffic.scene, [traffic.ais], at=positions)
    assert match.objects["status"].tolist() == ["ambiguous", "ambiguous"]
    assert all("219000001 at" in text for text in match.objects["candidates"])
    assert sum("another object" in text for text in match.objects["reason"]) == 2
    assert match.ships.set_index("mmsi").loc[219000001, "status"] == "ambiguous"
    assert match.counts["ambiguous"] == 2 and match.counts["AIS without detection"] == 3


def test_positions_and_a_time_without_motion(traffic):
    """Without the motion of the radar, the fast ship is 370 m from its object, and less
    sure than the one at anchor."""
    positions = traffic.ais.with_name("at.csv")
    rows = "".join(f"{row},{col},{120}\n" for row, col in traffic.places.values())
    positions.write_text("row,col,length_m\n" + rows)
    options = AisOptions(time="2021-01-19T03:16:54Z", min_confidence=0.5)
    match = match_scene(traffic.scene, [traffic.ais], options, at=positions)
    assert match.objects["mmsi"].tolist() == list(SHIPS)
    assert match.objects["length_m"].tolist() == [120] * 3
    assert match.objects["distance_m"].tolist()[1] == pytest.approx(
        10 * (350 - traffic.places[219000002][0]), abs=5
    )
    assert (
        any("are not shifted" in note for note in match.notes)
        and (match.ships["shift_m"] == 0).all()
    )
