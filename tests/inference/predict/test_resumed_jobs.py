"""Prediction jobs that are killed or fail, and are finished by the same call."""

import errno
import re
from dataclasses import replace

import pandas as pd
import pytest

from rsft.errors import NetworkError, RequestError
from rsft.inference.options import PredictionRequest
from rsft.inference.predict import result as result_module
from rsft.inference.predict.batch_journal import BatchJournal
from rsft.inference.predict.job import predict
from rsft.scenes.query import Query
from tests.helpers.file_server import serving_folder
from tests.helpers.killing import kill_this_process, run_until_killed
from tests.helpers.scenes import (
    brightness_logits,
    use_toy_model,
)
from tests.inference.predict.scene_requests import request_at, ships_layer


def _killed_after(calls, *arguments):
    """Run a job whose process is killed after some calls of the engine."""
    remaining = [calls]

    def engine(inputs):
        remaining[0] -= 1
        if remaining[0] < 0:
            kill_this_process()
        return brightness_logits(inputs)

    use_toy_model(pytest.MonkeyPatch(), infer=engine)
    predict(*arguments)


@pytest.mark.slow
@pytest.mark.parametrize("query", ["grid", "at"])
def test_killed_job_is_resumed(bundle, scene, tmp_path, caplog, monkeypatch, query):
    out = tmp_path / "out.gpkg"
    request = PredictionRequest(query=Query(grid=8))
    if query == "at":
        request = request_at(ships_layer(tmp_path / "ships.gpkg"))
    size, calls, count = (8, 9, 124) if query == "grid" else (1, 2, 3)
    request = replace(request, batch_size=size)
    whole = predict(bundle, [scene], tmp_path / "whole.gpkg", request)
    run_until_killed(_killed_after, calls, bundle, [scene], out, request)
    assert not out.exists()
    batch_sizes = []

    def engine(inputs):
        batch_sizes.append(len(inputs))
        return brightness_logits(inputs)

    use_toy_model(monkeypatch, infer=engine)
    resumed = predict(bundle, [scene], out, request)
    found = re.search("resuming an interrupted job after ([1289]) batches", caplog.text)
    assert (
        found
        and sum(batch_sizes) <= count - int(found[1]) * size
        and len(whole.table) == count
    )
    pd.testing.assert_frame_equal(resumed.table, whole.table)
    assert resumed.notes == whole.notes and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("suffix", ["csv", "gpkg"])
def test_a_page_that_failed_is_finished_by_the_same_call(
    bundle, scene, tmp_path, monkeypatch, suffix
):
    out = tmp_path / f"out.{suffix}"
    page = tmp_path / "page.html"
    request = PredictionRequest(query=Query(grid=16), batch_size=8, html_path=page)

    def fill_disk(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(result_module, "write_review_page", fill_disk)
        with pytest.raises(OSError, match="No space"):
            predict(bundle, [scene], out, request)
    assert out.is_file() and not page.exists()
    with pytest.raises(RequestError, match="exists already"):  # of another job
        predict(bundle, [scene], out, replace(request, query=Query(grid=8)))
    with pytest.raises(RequestError, match="exists already"):  # with another page
        predict(
            bundle, [scene], out, replace(request, html_path=tmp_path / "other.html")
        )
    result = predict(bundle, [scene], out, request)
    assert len(result.table) == 31 and page.is_file() and not list(tmp_path.glob(".*"))
    with pytest.raises(RequestError, match="exists already"):
        predict(bundle, [scene], out, request)


@pytest.mark.slow
def test_a_job_that_is_killed_after_its_last_output_can_be_repeated(
    bundle, scene, tmp_path
):
    request = PredictionRequest(
        query=Query(grid=16), batch_size=8, html_path=tmp_path / "page.html"
    )

    def predict_and_die():
        BatchJournal.close = kill_this_process
        predict(bundle, [scene], tmp_path / "out.csv", request)

    run_until_killed(predict_and_die)
    assert (tmp_path / "page.html").is_file()
    assert len(
        predict(bundle, [scene], tmp_path / "out.csv", request).table
    ) == 31 and not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_scene_on_a_web_server_is_resumed_after_a_failure(
    bundle, scene, tmp_path, monkeypatch
):
    request = PredictionRequest(query=Query(grid=8), batch_size=8)
    local = predict(bundle, [scene], tmp_path / "local.csv", request)
    batch_sizes: list[int] = []
    with serving_folder(scene.parent) as server:

        def engine(inputs):
            batch_sizes.append(len(inputs))
            if len(batch_sizes) == 3:
                raise NetworkError("127.0.0.1 answered 503", server.url(scene.name))
            return brightness_logits(inputs)

        use_toy_model(monkeypatch, infer=engine)
        address = server.url(f"{scene.name}?sig=1")
        with pytest.raises(NetworkError, match="answered 503"):
            predict(bundle, [address], tmp_path / "out.csv", request)
        seen = sum(batch_sizes)
        result = predict(
            bundle, [server.url(f"{scene.name}?sig=2")], tmp_path / "out.csv", request
        )
    assert sum(batch_sizes) - seen < len(local.table) and len(result.table) == len(
        local.table
    )
    assert result.table["path"].unique().tolist() == [server.url(scene.name)]
    same = ["chip", "scene", "row", "col", "lon", "lat", "class", "probability"]
    pd.testing.assert_frame_equal(result.table[same], local.table[same])
    assert "sig" not in str(result.notes) and result.notes[0] == local.notes[0]
