"""A prediction job before its first chip: options, outputs, and its key."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rsft.data.imagery.products.options import ProductOptions
from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import RequestError
from rsft.inference.options import DEFAULT_REQUEST, PredictionRequest
from rsft.inference.predict.open_job import job_key, open_job, writing_note
from rsft.scenes.options import UNDECLARED, Declaration
from rsft.scenes.query import CfarOptions, Query
from rsft.utils.journal import journal_path
from tests.helpers.messages import mentions
from tests.helpers.scenes import toy_bundle, write_geotiff


@pytest.fixture
def chip(tmp_path):
    return write_geotiff(tmp_path / "a.tif", np.ones((16, 16), np.uint8))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("o.csv", {"truth_path": Path("t.csv")}, ("--truth", "--detect")),
        ("o.csv", {"picture_path": Path("p.png")}, ("--picture needs",)),
        ("o.csv", {"chips_dir": Path("c")}, ("--chips", "give --at, --grid")),
        ("o.csv", {"product_options": ProductOptions(modulus=True)}, ("--read needs",)),
        ("o.coco.json", {}, ("needs scenes", "o.coco.json")),
        ("o.docx", {}, ("unknown format",)),
    ],
)
def test_options_that_need_scenes(tmp_path, chip, name, options, words):
    request = PredictionRequest(**options)
    with (
        pytest.raises(RequestError, match=mentions(*words)),
        open_job(toy_bundle(), Path("bundle"), [chip], tmp_path / name, request),
    ):
        pass
    assert not journal_path(tmp_path / name).exists()


def test_the_truth_needs_detection_also_in_scenes(tmp_path, chip):
    request = PredictionRequest(query=Query(grid=8), truth_path=Path("t.csv"))
    with (
        pytest.raises(RequestError, match=mentions("--truth", "--detect")),
        open_job(toy_bundle(), Path("bundle"), [chip], tmp_path / "o.csv", request),
    ):
        pass


@pytest.mark.parametrize(
    ("option", "name"), [("html_path", "p.txt"), ("picture_path", "p.jpg")]
)
def test_pages_and_pictures_have_their_suffix(tmp_path, chip, option, name):
    request = PredictionRequest(query=Query(grid=8), **{option: tmp_path / name})
    with (
        pytest.raises(RequestError, match=mentions(name)),
        open_job(toy_bundle(), Path("bundle"), [chip], tmp_path / "o.csv", request),
    ):
        pass


def test_the_journal_lives_until_the_job_ends(tmp_path, chip):
    output = tmp_path / "o.csv"
    with (
        pytest.raises(ZeroDivisionError),
        open_job(toy_bundle(), Path("bundle"), [chip], output, DEFAULT_REQUEST) as job,
    ):
        assert len(job.plan.sources[0]) == 1 and not job.replaces_outputs
        job.journal.set_note("a", "b")
        raise ZeroDivisionError
    assert journal_path(output).is_file()
    with open_job(toy_bundle(), Path("bundle"), [chip], output, DEFAULT_REQUEST):
        pass
    assert not journal_path(output).exists()


def test_an_existing_table_stays_unless_asked(tmp_path, chip):
    output = tmp_path / "o.csv"
    output.write_text("precious")
    with (
        pytest.raises(RequestError, match=mentions("o.csv", "--overwrite")),
        open_job(toy_bundle(), Path("bundle"), [chip], output, DEFAULT_REQUEST),
    ):
        pass
    request = replace(DEFAULT_REQUEST, overwrite=True)
    with open_job(toy_bundle(), Path("bundle"), [chip], output, request) as job:
        assert job.replaces_outputs
    assert output.read_text() == "precious"


def test_the_key_is_that_of_the_results(tmp_path, chip):
    bundle = toy_bundle()
    chips = {str(chip): UNDECLARED}

    def key(chips=chips, scenes=(), **options):
        request = replace(DEFAULT_REQUEST, **options)
        return job_key(bundle, scenes, chips, request)

    assert key() == key(overwrite=True, readers=3, device="cuda")
    others = [
        key(batch_size=8),
        key(precision="bf16"),
        key(query=Query(grid=8)),
        key(query=Query(detect=CfarOptions(pfa=1e-5))),
        key(html_path=tmp_path / "p.html"),
        key({str(chip): Declaration("db")}),
        key({}, [SceneUri.parse(chip)]),
        key({}),
    ]
    assert len({key(), *others}) == len(others) + 1
    write_geotiff(chip, np.full((16, 17), 2, np.uint8))
    assert key() != key({}) and key() not in others


def test_the_key_contains_the_positions(tmp_path, chip):
    (tmp_path / "p.csv").write_text("row,col\n1,2\n")
    request = replace(DEFAULT_REQUEST, query=Query(at=tmp_path / "p.csv"))
    before = job_key(toy_bundle(), [], {}, request)
    (tmp_path / "p.csv").write_text("row,col\n1,2\n3,4\n")
    assert job_key(toy_bundle(), [], {}, request) != before


def test_a_note_names_all_outputs():
    request = replace(DEFAULT_REQUEST, html_path=Path("p.html"))
    name, text = writing_note(Path("o.csv"), request)
    assert name == "outputs" and "o.csv" in text and "p.html" in text
    assert writing_note(Path("o.csv"), DEFAULT_REQUEST)[1] != text
