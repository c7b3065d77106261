"""Files as labelImg, roLabelImg, CVAT, LabelMe and Label Studio write them."""

import csv
import json

import numpy as np
import pytest

from rsft.data.annotations.base import read_annotations
from rsft.errors import RequestError
from tests.helpers.files import written
from tests.helpers.messages import mentions

VOC = """<annotation verified="yes">
	<folder>ssdd</folder>
	<filename>000001.jpg</filename>
	<path>C:\\data\\ssdd\\000001.jpg</path>
	<source>
		<database>Unknown</database>
	</source>
	<size>
		<width>416</width>
		<height>323</height>
		<depth>1</depth>
	</size>
	<segmented>0</segmented>
	<object>
		<name>ship</name>
		<pose>Unspecified</pose>
		<truncated>0</truncated>
		<difficult>1</difficult>
		<bndbox>
			<xmin>208</xmin>
			<ymin>50</ymin>
			<xmax>241</xmax>
			<ymax>179</ymax>
		</bndbox>
	</object>
	<object>
		<type>robndbox</type>
		<name>tanker</name>
		<difficult>0</difficult>
		<robndbox>
			<cx>100.0</cx>
			<cy>60.0</cy>
			<w>40.0</w>
			<h>10.0</h>
			<angle>0.5235987756</angle>
		</robndbox>
	</object>
	<object><name>ship</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>5</xmax><ymax>9</ymax></bndbox></object>
	<object><name>ship</name><bndbox><xmin>5</xmin><ymin>x</ymin><xmax>5</xmax><ymax>9</ymax></bndbox></object>
	<object><name>ship</name><bndbox><xmin>5</xmin></bndbox></object>
	<object><name>ship</name></object>
</annotation>
"""


def corners(shape):
    return np.array(shape.exterior.coords)[:4]


def test_pascal_voc_and_its_rotated_boxes(tmp_path):
    voc = read_annotations(written(tmp_path / "a.xml", VOC))
    assert (voc.crs, voc.images, voc.sizes) == (
        "pixel",
        ("000001.jpg",),
        {"000001.jpg": (416, 323)},
    )
    table = voc.table
    assert table["class"].tolist() == ["ship", "tanker", "ship", "ship", "ship", "ship"]
    assert table["difficult"].fillna(-1).tolist() == [1, 0, -1, -1, -1, -1]
    assert table.geometry[1].bounds == (208, 50, 241, 179)
    first = corners(table.geometry[2])[
        0
    ]  # the upper left corner, rotated by 30 degrees clockwise
    cos = np.cos(np.pi / 6)
    sin = 0.5
    assert first == pytest.approx(
        (100 - 20 * cos + 5 * sin, 60 - 20 * sin - 5 * cos), abs=1e-6
    )
    assert table.geometry[2].centroid.coords[0] == pytest.approx((100, 60))
    assert table["_fault"].tolist()[2:] == [
        "the box has no area",
        "could not convert string to float: 'x'",
        "bndbox/ymin is missing",
        "bndbox is missing",
    ]


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>5</id><name>ships</name><size>3</size><mode>annotation</mode>
    <labels><label><name>ship</name><color>#fa3253</color><type>any</type></label></labels></task>
    <dumped>2026-01-02 03:04:05.678+00:00</dumped></meta>
  <image id="0" name="images/a.tif" width="640" height="480">
    <tag label="harbour" source="manual"></tag>
    <box label="ship" occluded="1" source="manual" xtl="100.00" ytl="50.00" xbr="140.00" ybr="60.00" rotation="90.00"
      z_order="0"><attribute name="flag">PA</attribute></box>
    <polygon label="barge" occluded="0" source="manual" points="10.00,10.00;30.00,12.00;20.00,40.00" z_order="0">
    </polygon>
    <points label="buoy" occluded="0" source="manual" points="5.50,6.50;7.00,8.00" z_order="0"></points>
    <polyline label="wake" occluded="0" source="manual" points="1,1;2,2" z_order="0"></polyline>
    <mask label="oil" occluded="0" source="manual" rle="3, 5" left="1" top="1" width="4" height="2" z_order="0"></mask>
    <box label="ship" occluded="0" source="manual" xtl="1" ytl="1" xbr="1" ybr="9" z_order="0"></box>
    <box label="ship" occluded="0" source="manual" xtl="1" ytl="1" z_order="0"></box>
    <polygon label="ship" points="10,10;30" z_order="0"></polygon>
  </image>
  <image id="1" name="images/b.tif" width="640" height="480"></image>
  <image id="2" name="c.tif" width="640" height="480"><tag label="empty"></tag></image>
</annotations>
"""


def test_cvat_for_images(tmp_path):
    cvat = read_annotations(written(tmp_path / "annotations.xml", CVAT))
    assert (cvat.crs, cvat.images) == (
        "pixel",
        ("images/a.tif", "images/b.tif", "c.tif"),
    )
    assert cvat.sizes["images/b.tif"] == (640, 480)
    assert cvat.notes == [
        "annotations.xml: left out: 1 polyline, 1 mask, 1 image with tags but without"
        " objects"
    ]
    table = cvat.table
    assert table["class"].tolist() == [
        "ship",
        "barge",
        "buoy",
        "buoy",
        "ship",
        "ship",
        "ship",
    ]
    assert table.geometry[1].bounds == pytest.approx((115, 35, 125, 75))
    assert corners(table.geometry[1])[0] == pytest.approx(
        (125, 35)
    )  # the upper left corner, a quarter turn on
    assert table.geometry[2].bounds == (10, 10, 30, 40)
    assert [point.coords[0] for point in table.geometry[2:4]] == [(5.5, 6.5), (7, 8)]
    assert (table.loc[1, "flag"], table.loc[1, "occluded"], table.loc[1, "tags"]) == (
        "PA",
        1,
        "harbour",
    )
    assert table["_fault"].tolist()[4:6] == ["the box has no area", "xbr is missing"]
    assert table["_fault"][7] and table["_fault"][:4].tolist() == [""] * 4


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "<annotations><track id='0' label='a'/></annotations>",
            ["CVAT for video", "CVAT for images"],
        ),
        ("<annotations>", ["not a XML file"]),
        (
            '<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>',
            ["document type"],
        ),
        ("<" + "a><" * 70 + "a>", ["64 levels"]),
        ("<product/>", ["cannot be read"]),
    ],
)
def test_xml_that_is_no_annotation(tmp_path, text, parts):
    with pytest.raises(RequestError, match=mentions("a.xml", *parts)):
        read_annotations(written(tmp_path / "a.xml", text))


def labelme_shape(label, points, shape_type, **values):
    shape = {
        "label": label,
        "points": points,
        "group_id": None,
        "description": "",
        "shape_type": shape_type,
    }
    return shape | {"flags": {}, "mask": None} | values


LABELME = {
    "version": "5.5.0",
    "flags": {},
    "shapes": [
        labelme_shape(
            "ship",
            [[30.5, 40.0], [10.5, 20.0]],
            "rectangle",
            group_id=3,
            flags={"sure": True},
        ),
        labelme_shape(
            "barge", [[1, 1], [9, 2], [5, 8]], "polygon", description="moored"
        ),
        labelme_shape("buoy", [[7.5, 8.5]], "point"),
        labelme_shape("tank", [[50, 60], [53, 64]], "circle"),
        labelme_shape("wake", [[1, 1], [2, 2], [3, 1]], "linestrip"),
        labelme_shape("oil", [[1, 1], [2, 2]], "mask", mask="iVBORw0KGgo="),
        labelme_shape("ship", [[1, 1]], "rectangle"),
        labelme_shape("ship", [[1, "x"], [2, 2]], "rectangle"),
        labelme_shape("ship", None, "polygon"),
        7,
    ],
    "imagePath": "..\\images\\a.tif",
    "imageData": "/9j/4AAQ",
    "imageHeight": 480,
    "imageWidth": 640,
}


def test_labelme(tmp_path):
    labelme = read_annotations(written(tmp_path / "a.json", json.dumps(LABELME)))
    assert (labelme.crs, labelme.images) == ("pixel", ("..\\images\\a.tif",))
    assert labelme.sizes == {"..\\images\\a.tif": (640, 480)}
    assert labelme.notes == ["a.json: left out: 1 linestrip, 1 mask"]
    table = labelme.table
    assert table["at"].tolist() == [1, 2, 3, 4, 7, 8, 9, 10]
    assert table["class"].fillna("").tolist() == [
        "ship",
        "barge",
        "buoy",
        "tank",
        "ship",
        "ship",
        "ship",
        "",
    ]
    bounds = [shape.bounds for shape in table.geometry[:4]]
    assert bounds == [
        (10.5, 20, 30.5, 40),
        (1, 1, 9, 8),
        (7.5, 8.5, 7.5, 8.5),
        (45, 55, 55, 65),
    ]
    assert (
        table.loc[1, "group_id"],
        table.loc[1, "sure"],
        table.loc[2, "description"],
    ) == (3, True, "moored")
    assert table["_fault"][7] == "a rectangle has two points" and all(
        table["_fault"][[8, 9, 10]]
    )
    assert not any(table["_fault"][:4])


def region(kind, value, identity="r1", size=(200, 100), **values):
    sizes = (
        {"original_width": size[0], "original_height": size[1], "image_rotation": 0}
        if size
        else {}
    )
    result = sizes | {
        "value": value,
        "id": identity,
        "from_name": "label",
        "to_name": "image",
        "type": kind,
    }
    return result | {"origin": "manual"} | values


def rectangle(x, y, width, height, label="ship", rotation=0):
    return {
        "x": x,
        "y": y,
        "width": width,
        "height": height,
        "rotation": rotation,
        "rectanglelabels": [label],
    }


def annotation(number, *results, updated="2024-05-07T12:00:00Z", **values):
    return (
        {
            "id": number,
            "completed_by": 1,
            "result": list(results),
            "updated_at": updated,
        }
        | {
            "was_cancelled": False,
            "ground_truth": False,
        }
        | values
    )


SQUARE = {"x": 10, "y": 20, "width": 20, "height": 40, "rotation": 0}
TASKS = [
    {
        "id": 11,
        "data": {"image": "/data/upload/7/ab12cd34-a%20b.png", "orbit": "descending"},
        "predictions": [{"result": [region("rectanglelabels", rectangle(1, 1, 5, 5))]}],
        "annotations": [
            annotation(
                1,
                region(
                    "rectanglelabels",
                    rectangle(50, 50, 20, 10, "tanker", rotation=90),
                    "r1",
                ),
                region(
                    "polygonlabels",
                    {"points": [[0, 0], [50, 0], [25, 50]], "polygonlabels": ["oil"]},
                    "r2",
                ),
                region(
                    "keypointlabels",
                    {"x": 10, "y": 90, "width": 0.4, "keypointlabels": ["buoy"]},
                    "r3",
                ),
                region("rectangle", SQUARE, "r4"),
                region(
                    "choices", SQUARE | {"choices": ["fishing"]}, "r4", from_name="kind"
                ),
                region(
                    "choices", {"choices": ["rough", "windy"]}, "c1", from_name="sea"
                ),
                region(
                    "brushlabels",
                    {"format": "rle", "rle": [0, 1], "brushlabels": ["oil"]},
                    "r5",
                ),
                region(
                    "ellipselabels",
                    {
                        "x": 5,
                        "y": 5,
                        "radiusX": 1,
                        "radiusY": 2,
                        "ellipselabels": ["oil"],
                    },
                    "r6",
                ),
                {
                    "type": "relation",
                    "from_id": "r1",
                    "to_id": "r2",
                    "direction": "right",
                },
                region("rectanglelabels", rectangle(50, 50, 0, 10), "r7"),
                region(
                    "rectanglelabels",
                    rectangle(50, 50, 9, 9, rotation=5),
                    "r8",
                    size=None,
                ),
            ),
            annotation(
                2,
                region("rectanglelabels", rectangle(0, 0, 9, 9)),
                updated="2020-01-01T00:00:00Z",
            ),
            annotation(
                3,
                region("rectanglelabels", rectangle(0, 0, 8, 8)),
                updated="2030-01-01T00:00:00Z",
                was_cancelled=True,
            ),
        ],
    },
    {
        "id": 12,
        "data": {"image": "/data/local-files/?d=scenes/c.tif"},
        "annotations": [annotation(4)],
    },
    {"id": 13, "data": {"image": "https://example.org/d.png"}, "annotations": []},
]


def test_label_studio_json(tmp_path):
    studio = read_annotations(written(tmp_path / "a.json", json.dumps(TASKS)))
    assert (studio.crs, studio.images) == (
        "fraction",
        ("/data/upload/7/ab12cd34-a b.png", "scenes/c.tif", "/d.png"),
    )
    table = studio.table
    assert table["at"].tolist() == ["r1", "r2", "r3", "r4", "r7", "r8"]
    assert table["class"].tolist()[:4] == ["tanker", "oil", "buoy", "fishing"]
    pixels = corners(table.geometry[1]) * (
        200,
        100,
    )  # 40 x 10 pixels, rotated by 90 degrees around (100, 50)
    assert pixels == pytest.approx(np.array([(100, 50), (90, 50), (90, 90), (100, 90)]))
    assert table.geometry[2].bounds == (0, 0, 0.5, 0.5)
    assert table.geometry[3].coords[0] == (0.1, 0.9)
    assert table.geometry[4].bounds == pytest.approx((0.1, 0.2, 0.3, 0.6))
    assert (
        table["sea"].map(json.loads)[1] == ["rough", "windy"]
        and table["orbit"][1] == "descending"
    )
    assert table["_fault"].tolist()[4:] == [
        "the box has no area",
        "original_width or original_height is missing",
    ]
    assert studio.notes == [
        "a.json: left out: 1 canceled annotations, 1 older annotations of the same"
        " task, 1 predictions, 1 tasks without an annotation, 1 masks, 1 ellipses, 1"
        " relation"
    ]


def test_the_ground_truth_of_label_studio_is_preferred(tmp_path):
    old = annotation(
        1,
        region("rectanglelabels", rectangle(0, 0, 9, 9, "true")),
        ground_truth=True,
        updated="2020",
    )
    new = annotation(
        2, region("rectanglelabels", rectangle(0, 0, 9, 9, "new")), updated="2030"
    )
    task = {"id": 1, "data": {"image": "a.png"}, "annotations": [old, new]}
    assert read_annotations(written(tmp_path / "a.json", json.dumps([task]))).table[
        "class"
    ].tolist() == ["true"]


def record(number, task, name, updated, **values):
    """Return a record of JSON-MIN."""
    regions = [
        rectangle(50, 50, 20, 10, name, rotation=90)
        | {
            "original_width": 200,
            "original_height": 100,
        }
    ]
    times = {"created_at": updated, "updated_at": updated, "lead_time": 3.5}
    return (
        {
            "image": "/data/upload/7/ab12cd34-a.png",
            "id": task,
            "label": regions,
            "sea": "rough",
        }
        | times
        | {
            "annotator": 1,
            "annotation_id": number,
        }
        | values
    )


RECORDS = [
    record(1, 5, "tanker", "2024"),
    record(2, 5, "cargo", "2025"),
    record(3, 6, "tug", "2024", image="b.png", label=[]),
]


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_label_studio_json_min_and_csv(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    if kind == "json":
        path.write_text(json.dumps(RECORDS))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(
                file, sorted(RECORDS[0]), quoting=csv.QUOTE_NONNUMERIC
            )
            writer.writeheader()
            rows = (
                {
                    key: json.dumps(x) if isinstance(x, list) else x
                    for key, x in row.items()
                }
                for row in RECORDS
            )
            writer.writerows(rows)
    studio = read_annotations(path)
    table = studio.table
    assert (studio.crs, studio.images) == (
        "fraction",
        ("/data/upload/7/ab12cd34-a.png", "b.png"),
    )
    assert (table["class"].tolist(), table["sea"].tolist()) == (["cargo"], ["rough"])
    assert table.geometry[1].bounds == pytest.approx((0.45, 0.5, 0.5, 0.9))
    assert studio.notes[0].startswith(
        f"a.{kind}: left out: 1 older annotations of the same task"
    )


@pytest.mark.parametrize(
    "content",
    [
        [{"data": {"image": "a"}, "annotations": 3}],
        [{"data": {"image": "a"}, "annotations": [3]}],
        [{"data": {}}, 3],
        [{"data": {"image": "a"}, "annotations": [{"result": [4]}]}],
        [{"annotation_id": 1}, {"id": 3}],
        {"shapes": 3, "imagePath": "a"},
    ],
)
def test_damaged_json(tmp_path, content):
    with pytest.raises(RequestError, match=mentions("a.json", "export it again")):
        read_annotations(written(tmp_path / "a.json", json.dumps(content)))
