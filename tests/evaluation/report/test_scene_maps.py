"""Maps of scenes in a run folder and in its report."""

import base64
import re

import cv2
import numpy as np
import pytest

from rsft.errors import DataError
from rsft.evaluation.report.run_page import write_report
from rsft.evaluation.report.scene_maps import SceneMap, read_scene_maps, save_scene_maps
from tests.helpers.fake_run import write_fake_run
from tests.helpers.messages import mentions
from tests.helpers.report_page import Page, page_of

SCENE = SceneMap("<a>.tif", 1200, 30, ["31 of 32 true objects found", "17 of them have the right class"])
PICTURE = cv2.imencode(".png", np.full((20, 40, 3), (10, 120, 240), np.uint8))[1].tobytes()


@pytest.fixture
def run(tmp_path):
    return write_fake_run(tmp_path, ["cargo", "tanker"])


@pytest.mark.slow
def test_the_page_contains_picture_and_caption_and_keeps_them(run):
    assert read_scene_maps(run) == [] and "scenes" not in page_of(run).sections
    save_scene_maps(run, [(SCENE, PICTURE), (SceneMap("b.tif", 1, None, []), PICTURE)])
    for _ in range(2):  # a later report shows them too
        html = write_report(run).read_text()
        page = Page(html)
        assert list(page.sections)[1] == "scenes" and "#scenes" in {attrs["href"] for attrs in page.all("a")}
    text = page.sections["scenes"]
    assert "<a>.tif: 1,200 classified objects, 30 of them unlike the training chips (gray)." in text
    assert "the truth: 31 of 32 true objects found; 17 of them have the right class." in text
    assert "b.tif: 1 classified object. Dots" in text and "<a>" not in html.replace('<a class="skip"', "")
    picture = re.search(r'<img src="data:image/webp;base64,([^"]+)" alt="Map of', html)
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(picture[1]), np.uint8), cv2.IMREAD_COLOR)
    assert pixels.shape == (20, 40, 3) and np.abs(pixels.astype(int) - (10, 120, 240)).max() < 12


def test_a_page_without_pictures_has_no_maps(run):
    save_scene_maps(run, [(SCENE, PICTURE)])
    assert "scenes" not in Page(write_report(run, pictures=False).read_text()).sections


def test_maps_are_replaced(run):
    save_scene_maps(run, [(SCENE, PICTURE), (SCENE, PICTURE)])
    save_scene_maps(run, [(SCENE, PICTURE)])
    assert sorted(path.name for path in (run / "maps").iterdir()) == ["1.png", "maps.json"]


def test_damaged_maps(run):
    save_scene_maps(run, [(SCENE, PICTURE)])
    (run / "maps/1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=mentions("picture", "1.png")):
        read_scene_maps(run)
    (run / "maps/1.png").unlink()
    with pytest.raises(DataError, match=mentions("picture", "1.png")):
        read_scene_maps(run)
    (run / "maps/maps.json").write_text('[{"scene": 3}]')
    with pytest.raises(DataError, match=mentions("maps.json")):
        write_report(run)
