"""Files as labelImg, roLabelImg and CVAT write them."""

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
    # the upper left corner, rotated by 30 degrees clockwise
    first = corners(table.geometry[2])[0]
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
    assert cvat.notes == ["annotations.xml: left out: 2 tag, 1 polyline, 1 mask"]
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
    # the upper left corner, a quarter turn on
    assert corners(table.geometry[1])[0] == pytest.approx((125, 35))
    assert table.geometry[2].bounds == (10, 10, 30, 40)
    assert [point.coords[0] for point in table.geometry[2:4]] == [(5.5, 6.5), (7, 8)]
    assert (table.loc[1, "flag"], table.loc[1, "occluded"]) == ("PA", 1)
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
