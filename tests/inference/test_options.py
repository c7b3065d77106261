"""Which options of a prediction change its results."""

from dataclasses import fields, replace
from pathlib import Path

from rsft.inference.options import DEFAULT_REQUEST, PredictionRequest
from rsft.scenes.query import Query


def test_a_job_may_be_resumed_with_other_outputs_and_devices():
    other = replace(
        DEFAULT_REQUEST,
        html_path=Path("p.html"),
        picture_path=Path("p.png"),
        overwrite=True,
        readers=3,
        device="cuda",
    )
    assert other == DEFAULT_REQUEST


def test_what_is_cut_and_how_it_is_computed_counts():
    for change in (
        {"query": Query(grid=8)},
        {"batch_size": 1},
        {"precision": "bf16"},
        {"chips_dir": Path("c")},
    ):
        assert replace(DEFAULT_REQUEST, **change) != DEFAULT_REQUEST
    assert not DEFAULT_REQUEST.query.reads_scenes
    names = {field.name for field in fields(PredictionRequest) if not field.compare}
    assert names >= {"html_path", "picture_path", "overwrite", "device"}
