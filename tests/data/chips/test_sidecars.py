"""Figures have the same bytes every time, for all pixels and all scripts of class
names."""

from xml.etree.ElementTree import fromstring as parse_xml

import cv2
import numpy as np
import pytest

from rsft.data.chips.sidecars import (
    render_class_figure,
    render_contact_sheet,
    render_thumbnail,
)


def decode(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


@pytest.mark.parametrize("count", [1, 5, 200])
def test_class_figure(count):
    names = [f"货<{index}&" for index in range(count)]
    counts = {
        "train": {name: 3 * index + 1 for index, name in enumerate(names)},
        "test": {names[0]: 4},
    }
    group_of = {
        name: ("head", "medium", "tail")[index % 3] for index, name in enumerate(names)
    }
    figure = render_class_figure("数据", counts, group_of)
    assert render_class_figure("数据", counts, group_of) == figure
    root = parse_xml(figure)
    bars = root.findall("{*}rect")[1:]
    # the largest class first, and one chip has a bar as well
    assert [x[0].text for x in bars] == [
        f"{name}: {counts['train'][name]}" for name in reversed(names)
    ]
    lengths = [float(x.get("width")) for x in bars]
    assert lengths == sorted(lengths, reverse=True) and lengths[-1] > 0
    assert lengths[0] == 500
    texts = [x.text for x in root.findall("{*}text")]
    assert texts[0].startswith(f"数据: {sum(counts['train'].values()):,} train chips")
    assert (names[0] in texts) == (count <= 40)


def test_contact_sheet_shows_all_chips(tmp_path):
    for index in range(9):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 20), np.uint8)
        cv2.imwrite(str(tmp_path / f"{index} 船.png"), pixels)
    sheet = render_contact_sheet(sorted(tmp_path.glob("*.png")))
    assert decode(sheet).shape == (204, 804, 3)
    assert render_contact_sheet(sorted(tmp_path.glob("*.png"))) == sheet


def test_thumbnail_keeps_aspect_ratio_band_order_and_bytes():
    red = np.zeros((96, 48, 3), np.uint8)
    red[..., 0] = 200
    small = render_thumbnail(red)
    assert small[50, 20].tolist() == [0, 0, 200] and small[50, 90].tolist() == [
        128,
        128,
        128,
    ]


@pytest.mark.parametrize(
    ("dtype", "bands"), [("uint16", 1), ("float32", 2), ("float32", 5)]
)
def test_other_values_are_stretched(dtype, bands):
    pixels = (
        np.linspace(-30 if dtype == "float32" else 0, 3000, 96 * 96)
        .reshape(96, 96, 1)
        .astype(dtype)
    )
    small = render_thumbnail(np.repeat(pixels, bands, axis=2))
    assert small.min() == 0 and small.max() == 255 and abs(small.mean() - 127) < 3
