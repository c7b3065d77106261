"""Files of labels and positions as people and programs write them, half of them wrong.

A wrong file is refused, or what is wrong with it is counted. A right one gives these
places and classes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from pyproj import Transformer

from rsft.data.chips.store import ChipStore, read_dataset
from rsft.errors import RequestError
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.job import predict
from rsft.scenes.options import ChipOptions, ChipSize
from rsft.scenes.positions import read_positions
from rsft.scenes.query import Query
from rsft.scenes.raster import open_scene
from tests.helpers.files import written
from tests.helpers.label_files import (
    CLASSES,
    COLS,
    EAST,
    HEIGHT,
    LAT,
    LON,
    NORTH,
    PLACES,
    ROWS,
    WIDTH,
    boxes,
    coco,
    cvat,
    geojson,
    labelme,
    layer,
    table,
    voc,
)
from tests.helpers.messages import mentions
from tests.helpers.scenes import UTM, use_toy_model, write_geotiff


@pytest.fixture
def scene_path(tmp_path):
    pixels = np.random.default_rng(0).integers(1, 255, (HEIGHT, WIDTH), np.uint8)
    return write_geotiff(tmp_path / "s.tif", pixels, crs="EPSG:32633", transform=UTM)


# files that are right; each function writes one, and returns its path


def quoted_tabs_with_a_mark(folder: Path) -> Path:
    cells = [f'"{name} "' for name in CLASSES]
    text = table('"row"\t"col"\t"class"', ROWS, COLS, cells, separator="\t")
    path = folder / "a.csv"
    path.write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    return path


def vertical_bars(folder: Path) -> Path:
    classes = [f" {name}  " for name in CLASSES]
    text = table("PX | PY | Label", COLS, ROWS, classes, separator=" | ")
    return written(folder / "a.csv", text)


def decimal_commas(folder: Path) -> Path:
    texts = [[f"{x:.7f}".replace(".", ",") for x in column] for column in (LON, LAT)]
    text = table("Longitude;Latitude;class", *texts, CLASSES, separator=";")
    return written(folder / "a.csv", text)


def scientific_meters(folder: Path) -> Path:
    x, y = ([f"{value:.8e}" for value in column] for column in (LON, LAT))
    return written(folder / "a.csv", table("lon,lat,class", x, y, CLASSES))


def holes_and_closed_rings(folder: Path) -> Path:
    geometries = []
    for x, y in zip(EAST, NORTH, strict=True):
        ring = shapely.box(x - 100, y - 50, x + 100, y + 50)
        ring = ring.difference(shapely.box(x - 30, y - 20, x + 30, y + 20))
        geometries.append(ring)
    frame = geopandas.GeoDataFrame({"class": CLASSES}, geometry=geometries, crs=32633)
    frame.to_crs(4326).to_file(folder / "a.geojson")
    return folder / "a.geojson"


def other_projection(folder: Path) -> Path:
    transform = Transformer.from_crs(32633, 3035, always_xy=True)
    return layer(folder / "a.gpkg", 3035, *transform.transform(EAST, NORTH))


def neighboring_zone(folder: Path) -> Path:
    transform = Transformer.from_crs(32633, 32634, always_xy=True)
    return layer(folder / "a.parquet", 32634, *transform.transform(EAST, NORTH))


def shapefile_in_degrees(folder: Path) -> Path:
    return layer(folder / "a.shp", 4326, LON, LAT)


def axis_order_of_a_geopackage(folder: Path) -> Path:
    """A system whose authority puts the latitude first; files do not."""
    return layer(folder / "a.gpkg", 4258, LON, LAT)


def corner_and_size(folder: Path) -> Path:
    left = COLS - 10
    top = ROWS - 5
    sizes = [20] * 6, [10] * 6
    header = "image,x_min,y_min,width,height,class"
    return written(
        folder / "a.csv", table(header, ["s.tif"] * 6, left, top, *sizes, CLASSES)
    )


def center_and_size(folder: Path) -> Path:
    header = "filename,x_center,y_center,w,h,label"
    sizes = [20] * 6, [10] * 6
    return written(
        folder / "a.csv", table(header, ["s.tif"] * 6, COLS, ROWS, *sizes, CLASSES)
    )


def several_images(folder: Path) -> Path:
    images = [
        {"id": 7, "file_name": "other.tif", "width": 50, "height": 50},
        {"id": 1, "file_name": "data/s.tif", "width": WIDTH, "height": HEIGHT},
    ]
    sides = [(left, top, 20, 10) for left, top, *_ in boxes()]
    path = coco(folder / "a.json", sides, images=images)
    content = json.loads(path.read_text())
    for row, name in zip(content["annotations"], CLASSES, strict=True):
        row["category_id"] = 1 + (name == "tanker")
    content["annotations"].append(
        {"id": 99, "image_id": 7, "category_id": 1, "bbox": [1, 1, 9, 9]}
    )
    return written(path, json.dumps(content))


def circles(folder: Path) -> Path:
    points = [[[col, row], [col + 8, row]] for row, col in PLACES]
    return labelme(folder / "a.json", "circle", points)


def rectangles_from_any_corner(folder: Path) -> Path:
    points = [[[right, top], [left, bottom]] for left, top, right, bottom in boxes()]
    return labelme(folder / "a.json", "rectangle", points)


def quarter_turns(folder: Path) -> Path:
    shapes = [
        f"<box label='{name}' xtl='{left}' ytl='{top}' xbr='{right}' ybr='{bottom}'"
        " rotation='90'/>"
        for name, (left, top, right, bottom) in zip(CLASSES, boxes(), strict=True)
    ]
    return cvat(folder / "a.xml", shapes)


def image_without_a_size(folder: Path) -> Path:
    return voc(folder / "a.xml", boxes())


def rotated_fractions(folder: Path) -> Path:
    written(folder / "classes.txt", "cargo\ntanker\n")
    lines = []
    for number, (left, top, right, bottom) in enumerate(boxes()):
        corners = ((left, top), (right, top), (right, bottom), (left, bottom))
        numbers = [f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in corners]
        lines.append(f"{number % 2} {' '.join(numbers)}")
    return written(folder / "s.txt", "\n".join(lines))


def clockwise_quadrilaterals(folder: Path) -> Path:
    lines = ["imagesource:GoogleEarth", "gsd:null"]
    for name, (left, top, right, bottom) in zip(CLASSES, boxes(), strict=True):
        corners = f"{right} {top} {right} {bottom} {left} {bottom} {left} {top}"
        lines.append(f"{corners} {name} 0")
    return written(folder / "s.txt", "\r\n".join(lines))


def percents_of_the_image(folder: Path) -> Path:
    results = []
    for name, (left, top, *_) in zip(CLASSES, boxes(), strict=True):
        value = {
            "x": left / WIDTH * 100,
            "y": top / HEIGHT * 100,
            "rectanglelabels": [name],
        }
        value |= {"width": 20 / WIDTH * 100, "height": 10 / HEIGHT * 100}
        size = {"original_width": WIDTH, "original_height": HEIGHT}
        results.append(
            {"id": f"r{left}", "type": "rectanglelabels", "value": value} | size
        )
    tasks = [{"data": {"image": "s.tif"}, "annotations": [{"result": results}]}]
    return written(folder / "a.json", json.dumps(tasks))


def longitudes_to_360(folder: Path) -> Path:
    return written(folder / "a.csv", table("lon,lat,class", LON + 360, LAT, CLASSES))


RIGHT: list[Callable[[Path], Path]] = [
    quoted_tabs_with_a_mark,
    vertical_bars,
    decimal_commas,
    scientific_meters,
    holes_and_closed_rings,
    other_projection,
    neighboring_zone,
    shapefile_in_degrees,
    axis_order_of_a_geopackage,
    corner_and_size,
    center_and_size,
    several_images,
    circles,
    rectangles_from_any_corner,
    quarter_turns,
    image_without_a_size,
    rotated_fractions,
    clockwise_quadrilaterals,
    percents_of_the_image,
    longitudes_to_360,
]


@pytest.mark.parametrize("write", RIGHT, ids=lambda write: write.__name__)
def test_a_right_file_gives_places_and_classes(scene_path, write):
    positions = read_positions(write(scene_path.parent), open_scene(scene_path))
    places = np.array([(item.row, item.col) for item in positions.locations])
    assert places == pytest.approx(np.array(PLACES), abs=0.01)
    assert [str(x).strip() for x in positions.attributes["class"]] == CLASSES
    assert not positions.rejected and not positions.outside


# files that are wrong; each function writes one, and returns its path and what the
# message mentions


def exchanged_columns_of_degrees(folder: Path):
    frame = pd.DataFrame({"lon": LAT, "lat": LON, "class": CLASSES})
    frame.to_parquet(folder / "a.parquet")
    return folder / "a.parquet", "lon and lat are exchanged"


def exchanged_columns_of_pixels(folder: Path):
    """Half of the places lie in the scene all the same."""
    return written(folder / "a.csv", table("row,col,class", COLS, ROWS, CLASSES)), (
        "row and col are exchanged",
        "3 positions lie outside",
    )


def exchanged_axes_of_boxes(folder: Path):
    exchanged = [(top, left, bottom, right) for left, top, right, bottom in boxes()]
    return voc(folder / "a.xml", exchanged), "exchanged"


def another_zone(folder: Path):
    return layer(folder / "a.gpkg", 32632), ("EPSG:32632", "row -1721")


def kilometers(folder: Path):
    path = layer(folder / "a.gpkg", 32633, EAST / 1000, NORTH / 1000)
    return path, "300 x 400 pixels (geotransform, EPSG:32633)"


def radians(folder: Path):
    text = table("lon,lat,class", np.radians(LON), np.radians(LAT), CLASSES)
    return written(folder / "a.csv", text), "col -165834"


def integers_of_degrees(folder: Path):
    lon, lat = ((1e7 * values).astype(int) for values in (LON, LAT))
    return written(folder / "a.csv", table("lon,lat,class", lon, lat, CLASSES)), (
        "no degrees",
        "row 2: x 15",
        "row 4",
    )


def meters_of_the_web(folder: Path):
    transform = Transformer.from_crs(4326, 3857, always_xy=True)
    path = folder / "a.geojson"
    points = zip(*transform.transform(LON, LAT), strict=True)
    return geojson(path, [{"type": "Point", "coordinates": xy} for xy in points]), (
        "no degrees",
        "EPSG:4326",
        "row 2",
    )


def one_place_for_all(folder: Path):
    """A geocoder gives the middle of the port."""
    lon, lat = np.full(6, LON.mean()), np.full(6, LAT.mean())
    return written(folder / "a.csv", table("lon,lat,class", lon, lat, CLASSES)), (
        "6 of 6 objects share one pixel",
        "row 2",
        "row 4",
    )


def negative_sizes(folder: Path):
    lines = [
        f"{n % 2} {col / WIDTH} {row / HEIGHT} -0.05 -0.03"
        for n, (row, col) in enumerate(PLACES)
    ]
    return written(folder / "s.txt", "\n".join(lines)), (
        "6 rejected",
        "before it begins",
    )


def no_numbers(folder: Path):
    text = '{"type": "Point", "coordinates": [NaN, NaN]}'
    feature = '{"type": "Feature", "properties": {"class": "cargo"}, "geometry": %s}'
    content = '{"type": "FeatureCollection", "features": [%s]}'
    return written(folder / "a.geojson", content % (feature % text)), "a.geojson"


def empty_geometries(folder: Path):
    shapes = [
        None,
        {"type": "Polygon", "coordinates": []},
        {"type": "Point", "coordinates": []},
    ]
    return geojson(folder / "a.geojson", shapes), ("no position", "a.geojson")


def degrees_minutes_seconds(folder: Path):
    text = table(
        "lon;lat;class", ["15° 0' 3\""] * 6, ["45° 9' 1\""] * 6, CLASSES, separator=";"
    )
    return written(folder / "a.csv", text), (
        "6 of 6 rows have no numbers",
        "line 2",
        "line 4",
    )


def grid_references(folder: Path):
    text = table("easting,northing,class", ["33TWK0004"] * 6, ["99970"] * 6, CLASSES)
    return written(folder / "a.csv", text), ("no numbers", "33TWK0004")


def size_of_a_thumbnail(folder: Path):
    points = [
        [[left / 4, top / 4], [right / 4, bottom / 4]]
        for left, top, right, bottom in boxes()
    ]
    path = labelme(
        folder / "a.json", "rectangle", points, imageWidth=100, imageHeight=75
    )
    return path, ("100 x 75", "400 x 300")


def turned_image(folder: Path):
    shapes = [
        f"<box label='cargo' xtl='{top}' ytl='{left}' xbr='{bottom}' ybr='{right}'/>"
        for left, top, right, bottom in boxes()
    ]
    return cvat(folder / "a.xml", shapes, HEIGHT, WIDTH), "exchanged"


def another_image(folder: Path):
    return voc(folder / "a.xml", boxes(), "t.tif"), "scene without labels"


def corners_as_sizes(folder: Path):
    return coco(folder / "a.json", boxes()), ("width and height", "row")


def labels_without_classes(folder: Path):
    return written(folder / "a.csv", table("row,col,class", ROWS, COLS, [" "] * 6)), (
        "the label has no class",
        "6 rejected",
    )


def null_island(folder: Path):
    text = table("lon,lat,class", [0] * 6, [0.0] * 6, CLASSES)
    return written(folder / "a.csv", text), ("6 rejected", "missing position")


def two_annotators(folder: Path):
    text = table(
        "row,col,class", [*ROWS, *ROWS], [*COLS, *COLS], [*CLASSES, *CLASSES[::-1]]
    )
    return written(folder / "a.csv", text), (
        "12 rejected: an object has the classes cargo, tanker",
        "a.csv:2",
    )


def rounded_identifiers(folder: Path):
    mmsi = ["2.19E+08", "2.11E+08"] * 3
    text = table("row,col,class,MMSI", ROWS, COLS, CLASSES, mmsi)
    return written(folder / "a.csv", text), ("MMSI", "2.19E+08", "spreadsheet")


def fractions_of_coco(folder: Path):
    sides = [(x / WIDTH, y / HEIGHT, 20 / WIDTH, 10 / HEIGHT) for x, y, *_ in boxes()]
    return coco(folder / "a.json", sides), FRACTIONS


def fractions_of_voc(folder: Path):
    scale = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT])
    return voc(folder / "a.xml", np.array(boxes()) / scale), FRACTIONS


def fractions_of_labelme(folder: Path):
    points = [
        [[left / WIDTH, top / HEIGHT], [right / WIDTH, bottom / HEIGHT]]
        for left, top, right, bottom in boxes()
    ]
    return labelme(folder / "a.json", "rectangle", points), FRACTIONS


def fractions_of_centers(folder: Path):
    text = table("row,col,class", ROWS / HEIGHT, COLS / WIDTH, CLASSES)
    return written(folder / "a.csv", text), FRACTIONS


FRACTIONS = ("6 of 6 objects lie in the first pixel", "fractions", "row 2")


def points_of_thousands(folder: Path):
    rows, cols = ([f"1.{value:03}" for value in column] for column in (ROWS, COLS))
    text = table("row;col;class", rows, cols, CLASSES, separator=";")
    return written(folder / "a.csv", text), ("thousands", "1.030", "1.040", "1.110")


def sizes_without_a_corner_or_center(folder: Path):
    header = "image,x,y,width,height,class"
    sizes = [20] * 6, [10] * 6
    text = table(header, ["s.tif"] * 6, COLS, ROWS, *sizes, CLASSES)
    return written(folder / "a.csv", text), ("corner", "center")


def two_categories_of_one_id(folder: Path):
    sides = [(left, top, 20, 10) for left, top, *_ in boxes()]
    names = [
        {"id": number, "name": name}
        for number, name in zip((1, 1), CLASSES, strict=False)
    ]
    names.append({"id": 2, "name": "tug"})
    path = coco(folder / "a.json", sides, categories=names)
    return path, ("cargo", "tanker", "id 1")


def rotations_in_degrees(folder: Path):
    objects = [
        f"<object><name>{name}</name><robndbox><cx>{col}</cx><cy>{row}</cy><w>20</w>"
        "<h>10</h><angle>45</angle></robndbox></object>"
        for name, (row, col) in zip(CLASSES, PLACES, strict=True)
    ]
    text = f"<annotation><filename>s.tif</filename>{''.join(objects)}</annotation>"
    return written(folder / "a.xml", text), ("6 of 6 angles", "radians", "45")


WRONG: list[Callable[[Path], tuple[Path, str | tuple[str, ...]]]] = [
    exchanged_columns_of_degrees,
    exchanged_columns_of_pixels,
    exchanged_axes_of_boxes,
    another_zone,
    kilometers,
    radians,
    integers_of_degrees,
    meters_of_the_web,
    one_place_for_all,
    negative_sizes,
    no_numbers,
    empty_geometries,
    degrees_minutes_seconds,
    grid_references,
    size_of_a_thumbnail,
    turned_image,
    another_image,
    corners_as_sizes,
    labels_without_classes,
    null_island,
    two_annotators,
    rounded_identifiers,
    fractions_of_coco,
    fractions_of_voc,
    fractions_of_labelme,
    fractions_of_centers,
    points_of_thousands,
    sizes_without_a_corner_or_center,
    two_categories_of_one_id,
    rotations_in_degrees,
]


@pytest.mark.parametrize("write", WRONG, ids=lambda write: write.__name__)
def test_a_wrong_file_is_refused(scene_path, write, rsft):
    path, parts = write(scene_path.parent)
    code, text = rsft(
        *("prepare", "scenes", scene_path, "--at", path, "--root", "store"),
        *("--split", "object", "--jobs", "1"),
    )
    words = " ".join(text.split())
    assert code == 2, words
    for part in (parts,) if isinstance(parts, str) else parts:
        assert part in words, words
    assert not Path("store").exists()


def test_the_classes_of_a_store(scene_path, rsft):
    """Blanks and two spellings of a letter make no class; a repeated row no chip."""
    classes = ["b\u00e5t", "ba\u030at ", " b\u00e5t", "tug", "tug\u00a0", "tug"]
    rows = table("row,col,class", [*ROWS, 30], [*COLS, 40], [*classes, classes[0]])
    path = written(scene_path.parent / "a.csv", rows)
    code, text = rsft(
        *("prepare", "scenes", scene_path, "--at", path, "--root", "store"),
        *("--split", "object", "--jobs", "1"),
    )
    assert code == 0, text
    store = ChipStore.open(Path("store"))
    assert store.classes == ("b\u00e5t", "tug")
    centers = store.table.sort_values("row")[["row", "col"]].to_numpy().tolist()
    assert centers == [list(place) for place in PLACES]
    assert read_dataset(store.root)["skipped"] == {"repeated label of an object": 1}


def test_positions_of_a_prediction(scene_path, monkeypatch):
    use_toy_model(monkeypatch)
    folder = scene_path.parent

    def run(path: Path, out: str):
        options = ChipOptions(size=ChipSize(16))
        request = PredictionRequest(Query(at=path), chip_options=options)
        return predict(Path("bundle"), [scene_path], folder / out, request)

    path = corner_and_size(folder)
    run(path, "right.csv")
    result = pd.read_csv(folder / "right.csv")
    assert result[["row", "col"]].to_numpy().tolist() == [list(x) for x in PLACES]
    path = written(folder / "b.csv", path.read_text().replace("x_min,y_min", "x,y"))
    with pytest.raises(RequestError, match=mentions("corner", "center", "--columns")):
        run(path, "unknown.csv")
    path, parts = one_place_for_all(folder)
    with pytest.raises(RequestError, match=mentions(*parts)):
        run(path, "wrong.csv")
    assert not list(folder.glob("*wrong*")) and not list(folder.glob("unknown*"))
