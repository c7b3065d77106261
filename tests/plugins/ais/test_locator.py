"""What AIS says about the objects of a prediction, beside what the image says."""

import pytest

from rsft.data.imagery.stretch import IDENTITY_STRETCH
from rsft.errors import RequestError
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.job import predict
from rsft.scenes.options import ChipOptions, ChipSize
from rsft.scenes.query import CfarOptions, Query
from tests.helpers.scenes import toy_bundle, toy_contract, use_toy_model


@pytest.mark.slow
@pytest.mark.parametrize("is_detected", [True, False])
def test_columns_of_ais(traffic, tmp_path, monkeypatch, is_detected):
    contract = toy_contract(
        units={"uint16": (IDENTITY_STRETCH,) * 3}, bands=("VV",), planes=("VV",) * 3
    )
    use_toy_model(
        monkeypatch, bundle=toy_bundle(classes=("cargo", "fishing"), contract=contract)
    )
    query = {"detect": CfarOptions(land="none")}
    if not is_detected:
        rows = "".join(f"{row},{col}\n" for row, col in traffic.places.values())
        query = {"at": traffic.ais.with_name("at.csv")}
        query["at"].write_text(f"row,col\n{rows}5,600\n")
    request = PredictionRequest(
        query=Query(**query, sources={"ais": traffic.ais}),
        chip_options=ChipOptions(size=ChipSize(32)),
    )
    result = predict(
        tmp_path / "bundle", [traffic.scene], tmp_path / "out.gpkg", request
    )
    table = result.table.set_index("ais_mmsi")
    assert sorted(table.index.dropna()) == [219000001, 219000002, 219000003]
    assert table["ais_status"].value_counts().to_dict() == {"matched": 3, "no AIS": 1}
    assert table.loc[219000003, ["ais_class", "ais_name", "ais_length_m"]].tolist() == [
        "tanker",
        "SHIP 3",
        120,
    ]
    assert ("at" in table) != is_detected
    # the tanker is not compared: the bundle has no such class
    notes = table["ais_note"].dropna().to_dict()
    assert set(notes) < {219000001, 219000002} and len(notes) == 1
    assert any("3 matched, 0 ambiguous, 1 no AIS" in note for note in result.notes)


def test_ais_needs_objects(tmp_path):
    with pytest.raises(RequestError, match="--ais needs --at or --detect"):
        Query(grid=32, sources={"ais": tmp_path / "ais.csv"})
