"""The page contains all its data and escapes text from the data."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from rsft.inference.review import page
from rsft.inference.review.page import MAX_CHIPS, write_review_page
from rsft.inference.writers.layer import PredictionLayer
from rsft.scenes.raster import open_scene
from rsft.utils.tables import escape_cell
from tests.helpers.scenes import write_geotiff

CLASSES = ("ship", "</script><b>")
THUMBNAIL = bytes(cv2.imencode(".jpg", np.zeros((8, 8), np.uint8))[1])


def make_layer(count=3, chips=None, scene=None):
    table = pd.DataFrame(
        {
            "chip": [f"{number}<i>" for number in range(count)],
            **(
                {"scene": scene, "row": 3.5, "col": np.arange(count) + 0.5}
                if scene
                else {}
            ),
            "path": [f"cut/{number}.tif" for number in range(count)],
            "class": ["ship", *["</script><b>"] * (count - 1)],
            "probability": np.linspace(0.9, 0.5, count),
            "p_ship": 0.5,
            "p_</script><b>": 0.5,
            "ood": True,
            "geometry": None,
        }
    )
    request = {
        "chips_dir": chips,
        "declaration": {"unit": "sigma0", "bands": ["VV", "VH"]},
    }
    metadata = {
        "recipe": "r",
        "bundle_sha256": "0" * 64,
        "rsft_version": "1",
        "created": "today",
        "bands": ["HH"],
    }
    metadata["notes"] = ["a <note>"]
    return PredictionLayer(table, None, CLASSES, metadata | {"request": request})


def write_page(tmp_path, layer, scenes=(), table="out.csv"):
    path = tmp_path / "review.html"
    thumbnails = [THUMBNAIL] * len(layer.table)
    bundle = Path("runs/my ships")
    write_review_page(
        path, layer, thumbnails, scenes, bundle, "data/ships", Path(table)
    )
    text = path.read_text("utf-8")
    return text, json.loads(
        re.search(r'<script id="data" type="application/json">(.*?)</script>', text)[1]
    )


def test_page_of_chip_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, data = write_page(tmp_path, make_layer())
    assert [chip["probability"] for chip in data["chips"]] == [0.5, 0.7, 0.9]
    assert data["chips"][0]["path"] == str(tmp_path / "cut/2.tif") and data["can_label"]
    assert (
        data["chips"][0]["class"] == "</script><b>"
        and data["classes"][0]["color"] == "#e69f00"
    )
    assert (
        "a &lt;note&gt;" in text and text.count("</script>") == 2 and "<b>" not in text
    )
    added = (
        "rsft data add data/ships corrected.csv --unit sigma0 --bands VV,VH --source"
        f" {tmp_path}/cut<"
    )
    assert added in text  # the browser saves the table anywhere
    assert "rsft finetune --from &#39;runs/my ships&#39;" in text
    assert (
        "rsft prepare folder corrected.csv --root data/corrected --unit sigma0 --bands"
        " VV,VH<" in text
    )
    assert not re.search(r"(src|href)=.?https?:", text)


def test_page_of_a_scene(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 999, (30, 60), np.uint16)
    scene = open_scene(write_geotiff(tmp_path / "s.tif", pixels))
    text, data = write_page(tmp_path, make_layer(scene="s.tif"), [scene])
    assert {"name": "s.tif", "width": 60, "height": 30}.items() <= data["scenes"][
        0
    ].items()
    assert data["scenes"][0]["picture"].startswith("data:image/jpeg;base64,/9j/")
    assert (
        not data["can_label"]
        and data["chips"][0]["path"] is None
        and "--chips DIR" in text
    )
    text, data = write_page(tmp_path, make_layer(scene="s.tif"), [scene], "out.gpkg")
    assert (
        data["can_label"]
        and data["chips"][0]["path"] is None
        and "prepare folder" not in text
    )
    assert data["table"] == str(Path("out.gpkg").absolute())
    text, data = write_page(tmp_path, make_layer(scene="s.tif", chips="cut"), [scene])
    assert data["can_label"] and "--root data/corrected<" in text
    # chips from scenes state their unit and bands; the labels name the table as well
    added = f"rsft data add data/ships corrected.csv --source {Path.cwd()}<"
    assert added in text


def test_only_the_least_certain_of_many_chips(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MAX_CHIPS", 2)
    text, data = write_page(tmp_path, make_layer(5))
    assert (
        len(data["chips"]) == 2 < MAX_CHIPS and "The 2 least certain of 5 chips" in text
    )


def test_script_is_valid_javascript(tmp_path):
    if shutil.which("node") is None:
        pytest.skip("node is not on this machine")
    text, _ = write_page(tmp_path, make_layer())
    (tmp_path / "page.js").write_text(
        re.findall(r"<script>(.*?)</script>", text, re.DOTALL)[0]
    )
    subprocess.run(["node", "--check", tmp_path / "page.js"], check=True)


def _luminance(color):
    digits = color * 2 if len(color) == 3 else color
    values = [int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in values
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_contrast_of_colors():
    """WCAG 2.2: 4.5 for text, 3 for borders of controls."""
    style = (files("rsft.inference.review") / "page.css").read_text("utf-8")
    schemes = [
        dict(re.findall(r"--([a-z-]+): #([0-9a-f]+)", block))
        for block in style.split("@media", 2)[:2]
    ]
    for scheme in schemes:
        luminance = {name: _luminance(color) for name, color in scheme.items()}

        def contrast(first, second, luminance=luminance):
            low, high = sorted((luminance[first], luminance[second]))
            return (high + 0.05) / (low + 0.05)

        for text in ("ink", "muted", "accent"):
            assert (
                min(contrast(text, ground) for ground in ("page", "paper", "wash"))
                >= 4.5
            ), text
        assert (
            contrast("ood", "paper") >= 4.5 and contrast("on-accent", "accent") >= 4.5
        )
        assert min(contrast("edge", ground) for ground in ("page", "paper")) >= 3


def test_content_security_policy_allows_this_script_alone(tmp_path):
    text, _ = write_page(tmp_path, make_layer())
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[
        1
    ].replace("&#39;", "'")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy and policy.startswith(
        "default-src 'none';"
    )
    assert "script-src 'unsafe-inline'" not in policy and not re.search(
        r"\son[a-z]+=", text.split("<script")[0]
    )


def test_saved_cells_are_no_formulas(tmp_path):
    """The page writes and reads cells as `escape_cell` and `unescape_cell` do."""
    if shutil.which("node") is None:
        pytest.skip("node is not on this machine")
    texts = [
        "=1+1",
        "=cmd|' /C calc'!A0",
        "+a",
        "-a",
        "@a",
        "\ta",
        "'=a",
        "''=a",
        "ship",
        "-1.5",
        "+3",
        "'ship'",
        "",
    ]
    script = (files("rsft.inference.review") / "labels.js").read_text("utf-8")
    lines = "\n".join(
        line
        for line in script.splitlines()
        if re.match(r"const (isNumber|escaped|unescaped) ", line)
    )
    program = f"{lines}\nconst t = {json.dumps(texts)}; const e = t.map(escaped);"
    program += "console.log(JSON.stringify([e, e.map(unescaped)]))"
    result = subprocess.run(
        ["node", "-e", program], capture_output=True, text=True, check=True
    )
    assert json.loads(result.stdout) == [[escape_cell(text) for text in texts], texts]
