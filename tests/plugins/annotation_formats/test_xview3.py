"""Labels and predictions of xView3."""

from rsft.data.annotations.base import read_annotations
from tests.helpers.files import written

XVIEW3 = (
    ",detect_lat,detect_lon,vessel_length_m,source,detect_scene_row,detect_scene_column,is_vessel,is_fishing,"
    "distance_from_shore_km,scene_id,confidence,top,left,bottom,right,detect_id\n"
    "0,55.1,4.2,24.5,ais,200,300,True,True,9.1,590dd08f71056cacv,HIGH,,,,,v_200_300\n"
    "1,55.2,4.3,,manual,210,310,True,False,9.1,590dd08f71056cacv,MEDIUM,205.0,300.0,216.0,321.0,v_210_310\n"
    "2,55.3,4.4,,ais/manual,220,320,True,,9.1,590dd08f71056cacv,LOW,230,310,210,330,v_220_320\n"
    "3,55.4,4.5,,manual,230,330,False,,9.1,b1844cde847a3942v,HIGH,,,,,b_230_330\n"
    "4,55.5,4.6,,manual,240,340,,,9.1,b1844cde847a3942v,LOW,,,,,b_240_340\n"
)


def test_xview3(tmp_path):
    annotations = read_annotations(written(tmp_path / "train.csv", XVIEW3))
    table = annotations.table
    assert (annotations.crs, annotations.images) == (
        "pixel",
        ("590dd08f71056cacv", "b1844cde847a3942v"),
    )
    assert table["class"].fillna("").tolist() == [
        "fishing",
        "nonfishing",
        "vessel",
        "nonvessel",
        "",
    ]
    assert [shape.geom_type for shape in table.geometry] == [
        "Point",
        "Polygon",
        "Polygon",
        "Point",
        "Point",
    ]
    assert table.geometry[2].coords[0] == (300, 200)  # column, row
    assert table.geometry[3].bounds == (300, 205, 321, 216) and table.geometry[
        4
    ].bounds == (310, 210, 330, 230)
    assert table["confidence"].tolist() == ["HIGH", "MEDIUM", "LOW", "HIGH", "LOW"]
    assert (
        table["vessel_length_m"].tolist()[0] == 24.5 and table["detect_lon"][2] == 4.2
    )


def test_xview3_on_a_map(tmp_path):
    text = "scene_id,detect_lat,detect_lon,is_vessel\na,55.1,4.2,True\n"
    annotations = read_annotations(written(tmp_path / "a.csv", text))
    assert (annotations.crs, annotations.images) == ("EPSG:4326", ())
    assert annotations.table.geometry[2].coords[0] == (4.2, 55.1) and annotations.table[
        "class"
    ].tolist() == ["vessel"]
