"""Files of labeling tools for `--at`."""

from __future__ import annotations

import json

from tests.fuzz.classes.positions import make_target
from tests.fuzz.mutate import mutate_json, mutate_text

BOX = "<bndbox><xmin>10</xmin><ymin>5</ymin><xmax>30</xmax><ymax>25</ymax></bndbox>"
ROTATED = (
    "<robndbox><cx>40</cx><cy>30</cy><w>20</w><h>8</h><angle>0.5</angle></robndbox>"
)
VOC = (
    "<annotation><filename>scene.tif</filename><size><width>80</width><height>60</height></size>\n"
    f"<object><name>ship</name><difficult>0</difficult>{BOX}</object>\n<object><name>tug</name>{ROTATED}</object>\n"
    "</annotation>"
)
CVAT = (
    '<annotations><version>1.1</version><image id="0" name="scene.tif" width="80"'
    ' height="60">\n<tag label="sea"/>\n<box label="ship" xtl="10" ytl="5" xbr="30"'
    ' ybr="25" rotation="30"><attribute name="a">b</attribute></box>\n<polygon'
    ' label="oil" points="1,1;20,2;9,30"/>\n<points label="buoy"'
    ' points="5,6;7,8"/>\n</image></annotations>'
)
LABELME = {
    "shapes": [
        {
            "label": "ship",
            "shape_type": "rectangle",
            "points": [[10, 5], [30, 25]],
            "flags": {"sure": True},
        },
        {
            "label": "oil",
            "shape_type": "polygon",
            "points": [[1, 1], [20, 2], [9, 30]],
            "group_id": 4,
        },
        {"label": "tank", "shape_type": "circle", "points": [[40, 30], [45, 30]]},
    ],
    "imagePath": "scene.tif",
    "imageHeight": 60,
    "imageWidth": 80,
}
_RECTANGLE = {
    "x": 10,
    "y": 20,
    "width": 30,
    "height": 20,
    "rotation": 15,
    "rectanglelabels": ["ship"],
}
_SIZE = {"original_width": 80, "original_height": 60}
_REGIONS = [
    {"id": "r1", "from_name": "label", "type": "rectanglelabels", "value": _RECTANGLE}
    | _SIZE,
    {"id": "r2", "from_name": "label", "type": "polygonlabels"}
    | {"value": {"points": [[1, 1], [50, 2], [9, 60]], "polygonlabels": ["oil"]}},
    {
        "id": "r3",
        "from_name": "sea",
        "type": "choices",
        "value": {"choices": ["rough"]},
    },
]
STUDIO = [
    {"id": 1, "data": {"image": "/data/upload/1/0f12cd34-scene.tif"}}
    | {
        "annotations": [
            {"id": 5, "result": _REGIONS, "was_cancelled": False, "updated_at": "2026"}
        ]
    }
]
XVIEW3 = (
    "detect_scene_row,detect_scene_column,is_vessel,is_fishing,scene_id,vessel_length_m,left,top,right,bottom\n"
    "20,30,True,False,scene,25.5,,,,\n40,50,True,True,scene,,45,35,55,45\n"
)

TARGETS = [
    make_target("positions_voc", "at.xml", VOC, mutate_text),
    make_target("positions_cvat", "at.xml", CVAT, mutate_text),
    make_target("positions_labelme", "at.json", json.dumps(LABELME), mutate_json),
    make_target("positions_labelstudio", "at.json", json.dumps(STUDIO), mutate_json),
    make_target("positions_xview3", "at.csv", XVIEW3, mutate_text),
]
