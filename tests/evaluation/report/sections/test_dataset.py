import base64
import json
import re
import shutil

import cv2
import numpy as np
import pytest

from rsft.data.imagery.reader import read_chip
from rsft.evaluation.report.run_files import read_run
from rsft.evaluation.report.run_page import write_report
from rsft.evaluation.report.sections import dataset as own
from rsft.evaluation.report.sections.dataset import Pictures, open_store
from tests.helpers.report_page import Page


@pytest.fixture
def folder(evaluated, tmp_path):
    shutil.copytree(evaluated, tmp_path / "001")
    return tmp_path / "001"


@pytest.fixture
def store(root, tmp_path):
    """A copy of the chips, elsewhere."""
    return shutil.copytree(root, tmp_path / "moved")


def sections(folder, **options):
    return Page(write_report(folder, **options).read_text(encoding="utf-8")).sections


def pixels(uri):
    data = base64.b64decode(uri.removeprefix("data:image/webp;base64,"))
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def test_a_picture_is_the_chip_as_the_network_sees_it(folder, root):
    files = read_run(folder)
    pictures = Pictures(files, open_store(files, None))
    path = files.predictions["path"][4]
    shown = pixels(pictures.picture(path, 96))
    assert shown.shape == (32, 32, 3) and pictures.words == "gray"
    assert np.abs(shown[:, :, 0] - read_chip(root / path)[:, :, 0].astype(float)).mean() < 12  # of WebP
    sheet = pixels(pictures.sheet([path, "nowhere.png", path], 16, 2))
    assert sheet.shape == (32, 32, 3)
    assert sheet[:16, 16:].max() < 16 < sheet[:16, :16].max() and sheet[16:, :16].max() > 16


@pytest.mark.parametrize(
    ("planes", "shown"),
    [
        (["gray"], [0, 0, 0]),
        (["R", "G", "B"], [0, 1, 2]),
        (["VV", "VH"], [0, 0, 0]),
        (["B02", "B03", "B04", "B08"], [2, 1, 0]),
    ],
)
def test_which_planes_are_shown(planes, shown):
    assert own._shown(planes) == shown


def test_the_data_set_is_told(folder, root):
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    rows = {row[0]: row[1:] for row in page.tables[-1]}
    assert rows["Class"] == ["Train", "Val"] and rows["steep"] == ["12", "6"]
    assert "as the run was trained on" in page.sections["data"] and "has not been audited" in page.sections["data"]
    assert "rsft prepare folder" in page.sections["reproduce"]


def test_what_the_audit_found(folder, store):
    finding = {"what": "contents in two splits", "count": 3, "of": 58, "examples": ["a", "b", "c"]}
    audit = {"subject": "x", "clean": False, "facts": {"chips": 58}, "findings": [finding], "classes": {}}
    (store / "audit.json").write_text(json.dumps([audit]))
    page = Page(write_report(folder, store).read_text(encoding="utf-8"))
    assert page.tables[-1][1] == ["contents in two splits", "3", "58"] and "a, b" in page.sections["data"]


def test_chips_that_moved_are_found_where_it_is_said(folder, store):
    path = folder / "evaluation/metrics.json"
    path.write_text(path.read_text().replace('"data": "', '"data": "/gone'))
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(facts | {"data": {"root": "/gone", "manifest_sha256": "00" * 32}}))
    found = sections(folder)
    assert "The chips were not found" in found["data"] and "were not found" in found["gallery"]
    found = sections(folder, data=store)
    assert "not found" not in found["data"] and "not the data that the run was trained on" in found["data"]


def test_a_chip_that_is_gone_leaves_the_pictures_out_and_is_named(folder, store):
    path = read_run(folder).predictions["path"][0]
    (store / path).unlink()
    shutil.rmtree(store / ".cache")
    found = sections(folder, data=store)
    assert "No pictures of chips" in found["gallery"] and path in found["gallery"]
    assert "steep" in found["data"]


def test_a_bundle_that_is_gone_leaves_the_pictures_out(folder):
    shutil.rmtree(folder / "bundle")
    assert "No pictures of chips" in sections(folder)["gallery"]


def test_pictures_can_be_left_out(folder):
    html = write_report(folder, pictures=False).read_text(encoding="utf-8")
    assert "left out on request" in html and "data:image" not in html


def test_pictures_are_small(folder, monkeypatch):
    """Noise, which packs worst, at the full size: 1,500 chips on the map and 144 in the gallery, in colour."""
    monkeypatch.setattr(Pictures, "__init__", lambda self: None)
    pictures = Pictures()
    rng = np.random.default_rng(0)
    pictures.images, pictures.planes = rng.integers(0, 256, (144, 96, 96, 3), np.uint8), [0, 1, 2]
    pictures.places = {str(place): place for place in range(144)}
    paths = [str(place % 144) for place in range(1500)]
    sheet = pictures.sheet(paths, 40, 40)
    gallery = [pictures.picture(path, 96) for path in pictures.places]
    assert len(sheet) + sum(map(len, gallery)) < 4.5e6


def test_every_picture_is_a_data_uri(folder):
    html = write_report(folder).read_text(encoding="utf-8")
    sources = re.findall(r'src="([^"]{5})', html)
    assert sources and set(sources) == {"data:"}
