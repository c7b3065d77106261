"""What a model card and a STAC item know of a bundle and what lies beside it."""

import json

import pytest

from rsft.errors import DataError
from rsft.plugins.publishing.source import fill_bundle_template, read_source
from tests.helpers.messages import mentions


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_an_evaluation_and_the_validation(ships):
    source = read_source(ships)
    evaluated, validated = source.measurements
    assert (evaluated.split, validated.split) == ("test", "val")
    assert sum(evaluated.class_chips) == evaluated.chips
    assert len(evaluated.recall) == len(source.bundle.classes) == 3
    assert evaluated.measures[:2] == ["micro", "macro"]
    assert validated.accuracies["tail"].value == 0.4444 and validated.recall == ()
    assert source.run["bundle_sha256"] == source.bundle.sha256


def test_the_evaluation_says_more_of_the_same_chips(ships):
    change(ships / "evaluation/metrics.json", split="val")
    (only,) = read_source(ships).measurements
    assert only.split == "val" and only.recall


def test_the_run_of_another_bundle_is_left_out(ships):
    change(ships / "run.json", bundle_sha256="0" * 64)
    source = read_source(ships)
    assert source.run == {}
    assert [measured.split for measured in source.measurements] == ["val"]
    (ships / "run.json").write_text("[1")
    assert read_source(ships).run == {}


def test_an_evaluation_of_other_classes_and_a_damaged_one(ships):
    path = ships / "evaluation/metrics.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"classes": ["x", "y", "z"]}))
    assert [measured.split for measured in read_source(ships).measurements] == ["val"]
    path.write_text("{")
    with pytest.raises(DataError, match=mentions("damaged")):
        read_source(ships)


def test_a_template_needs_all_of_its_values(ships):
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError):
        fill_bundle_template("card.md.jinja", read_source(ships))
