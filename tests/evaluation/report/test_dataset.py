import base64
import json
import re
import shutil

import cv2
import numpy as np
import pytest

from rsft.data.chips.store import ChipStore
from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError
from rsft.evaluation.report.dataset import (
    ChipPictures,
    SceneMap,
    read_scene_maps,
    save_scene_maps,
)
from rsft.evaluation.report.pages import write_report
from rsft.evaluation.report.run_files import read_run_files
from tests.helpers.fake_run import write_fake_run
from tests.helpers.messages import mentions
from tests.helpers.report_page import Page, page_of


@pytest.fixture
def folder(evaluated, tmp_path):
    shutil.copytree(evaluated, tmp_path / "001")
    return tmp_path / "001"


@pytest.fixture
def store(root, tmp_path):
    """Return a copy of the chip store in another folder."""
    return shutil.copytree(root, tmp_path / "moved")


def sections(folder, **options):
    return Page(write_report(folder, **options).read_text(encoding="utf-8")).sections


def pixels(uri):
    data = base64.b64decode(uri.removeprefix("data:image/webp;base64,"))
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def test_a_picture_is_the_chip_as_the_network_sees_it(folder, root):
    files = read_run_files(folder)
    pictures = ChipPictures(files, ChipStore.open(root))
    path = files.predictions["path"][4]
    shown = pixels(pictures.picture(path, 96))
    assert shown.shape == (32, 32, 3) and pictures.plane_names == "gray"
    # of WebP
    assert (
        np.abs(shown[:, :, 0] - read_chip(root / path)[:, :, 0].astype(float)).mean()
        < 12
    )


@pytest.mark.slow
def test_the_data_set_is_described(folder, root):
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    rows = {row[0]: row[1:] for row in page.tables[-1]}
    assert rows["Class"] == ["Train", "Val"] and rows["steep"] == ["12", "6"]
    assert (
        "unchanged since the run was trained" in page.sections["data"]
        and "was not audited" in page.sections["data"]
    )
    assert "rsft prepare folder" in page.sections["reproduce"]


@pytest.mark.slow
def test_the_findings_of_the_audit_are_shown(folder, store):
    finding = {
        "what": "contents in two splits",
        "count": 3,
        "of": 58,
        "examples": ["a", "b", "c"],
    }
    audit = {
        "subject": "x",
        "clean": False,
        "facts": {"chips": 58},
        "findings": [finding],
        "classes": {},
    }
    (store / "audit.json").write_text(json.dumps([audit]))
    page = Page(write_report(folder, store).read_text(encoding="utf-8"))
    assert (
        page.tables[-1][1] == ["contents in two splits", "3", "58"]
        and "a, b" in page.sections["data"]
    )


@pytest.mark.slow
def test_chips_that_moved_are_read_from_the_given_folder(folder, store):
    path = folder / "evaluation/metrics.json"
    path.write_text(path.read_text().replace('"data": "', '"data": "/gone'))
    metadata = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(
        json.dumps(metadata | {"data": {"root": "/gone", "manifest_sha256": "00" * 32}})
    )
    before = sections(folder)
    assert (
        "The chips were not found" in before["data"]
        and "were not found" in before["gallery"]
    )
    after = sections(folder, data=store)
    assert (
        "not found" not in after["data"]
        and "not the data that the run was trained on" in after["data"]
    )


@pytest.mark.slow
def test_without_a_chip_pictures_are_left_out_and_the_chip_is_named(folder, store):
    path = read_run_files(folder).predictions["path"][0]
    (store / path).unlink()
    shutil.rmtree(store / ".cache")
    page = sections(folder, data=store)
    assert "No pictures of chips" in page["gallery"] and path in page["gallery"]
    assert "steep" in page["data"]


def test_without_a_bundle_pictures_are_left_out(folder):
    shutil.rmtree(folder / "bundle")
    assert "No pictures of chips" in sections(folder)["gallery"]


def test_pictures_can_be_left_out(folder):
    html = write_report(folder, pictures=False).read_text(encoding="utf-8")
    assert "left out on request" in html and "data:image" not in html


@pytest.mark.slow
def test_pictures_are_small(folder, monkeypatch):
    """Noise compresses worst: 144 chips in the gallery, in color and at full size."""
    monkeypatch.setattr(ChipPictures, "__init__", lambda self: None)
    pictures = ChipPictures()
    rng = np.random.default_rng(0)
    pictures.images = rng.integers(0, 256, (144, 96, 96, 3), np.uint8)
    pictures.planes = [0, 1, 2]
    pictures.rows = {str(row): row for row in range(144)}
    gallery = [pictures.picture(path, 96) for path in pictures.rows]
    assert sum(map(len, gallery)) < 2e6


def test_every_picture_is_a_data_uri(folder):
    html = write_report(folder).read_text(encoding="utf-8")
    sources = re.findall(r'src="([^"]{5})', html)
    assert sources and set(sources) == {"data:"}


SCENE = SceneMap(
    "<a>.tif",
    1200,
    30,
    ["31 of 32 true objects found", "17 of them have the right class"],
)
PICTURE = cv2.imencode(".png", np.full((20, 40, 3), (10, 120, 240), np.uint8))[
    1
].tobytes()


@pytest.fixture
def fake(tmp_path):
    return write_fake_run(tmp_path, ["cargo", "tanker"])


@pytest.mark.slow
def test_the_page_begins_with_the_map_and_keeps_it(fake):
    assert (
        read_scene_maps(fake) == [] and "scene" not in page_of(fake).sections["header"]
    )
    other = SceneMap("b.tif", 1, None, [], {"cargo (1)": "#e69f00"})
    save_scene_maps(fake, [(SCENE, PICTURE), (other, PICTURE)])
    for _ in range(2):  # a later report shows them too
        html = write_report(fake).read_text()
        page = Page(html)
        assert list(page.sections)[1] == "scenes" and "#scenes" in {
            attrs["href"] for attrs in page.all("a")
        }
    text = page.sections["header"]
    assert (
        "<a>.tif: 1,200 classified objects, 30 of them unlike the training chips"
        " (gray)." in text
    )
    assert "right class. Dots" in text and text.index("<a>.tif") < text.index(
        "This run trained"
    )
    assert (
        "the truth: 31 of 32 true objects found; 17 of them have the right class."
        in text
    )
    text = page.sections["scenes"]
    assert (
        "b.tif: 1 classified object." in text
        and "cargo (1)" in text
        and "Dots" not in text
    )
    assert "background: #e69f00" in html and "<a>" not in html.replace(
        '<a class="skip"', ""
    )
    picture = re.search(r'<img src="data:image/webp;base64,([^"]+)" alt="Map of', html)
    pixels = cv2.imdecode(
        np.frombuffer(base64.b64decode(picture[1]), np.uint8), cv2.IMREAD_COLOR
    )
    assert (
        pixels.shape == (20, 40, 3)
        and np.abs(pixels.astype(int) - (10, 120, 240)).max() < 12
    )


def test_one_map_needs_no_section_of_its_own(fake):
    save_scene_maps(fake, [(SCENE, PICTURE)])
    assert "scenes" not in page_of(fake).sections


def test_maps_are_replaced(fake):
    save_scene_maps(fake, [(SCENE, PICTURE), (SCENE, PICTURE)])
    save_scene_maps(fake, [(SCENE, PICTURE)])
    assert sorted(path.name for path in (fake / "maps").iterdir()) == [
        "1.png",
        "maps.json",
    ]


def test_damaged_maps(fake):
    save_scene_maps(fake, [(SCENE, PICTURE)])
    (fake / "maps/1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=mentions("picture", "1.png")):
        read_scene_maps(fake)
    (fake / "maps/1.png").unlink()
    with pytest.raises(DataError, match=mentions("picture", "1.png")):
        read_scene_maps(fake)
    entry = (
        '{"scene": "a", "chips": 1, "ood": null, "truth": [], "legend": {"x": "red;'
        ' position: fixed"}}'
    )
    for content in ('[{"scene": 3}]', f"[{entry}]"):
        (fake / "maps/maps.json").write_text(content)
        with pytest.raises(DataError, match=mentions("maps.json")):
            write_report(fake)
