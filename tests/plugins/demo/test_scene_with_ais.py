"""The messages of a simulated scene name the ships in it."""

import geopandas
import pandas as pd
import pytest

from rsft.plugins.demo.scene import write_scene

job = pytest.importorskip("rsft.plugins.ais.job")


@pytest.mark.slow
def test_the_messages_lead_to_the_ships(tmp_path):
    folder = tmp_path / "scene"
    write_scene(folder, seed=0)
    ais = folder / "ais.csv"
    match = job.match_scene(folder / "scene.tif", [ais], at=folder / "ships.gpkg")
    ships = geopandas.read_file(folder / "ships.gpkg")
    senders = pd.read_csv(ais)["MMSI"].nunique()
    assert 0.7 * len(ships) < senders < len(ships)
    matched = match.objects[match.objects["status"] == "matched"]
    assert len(matched) >= 0.9 * senders
    assert (matched["ais_class"] == ships["class"][matched.index]).all()
