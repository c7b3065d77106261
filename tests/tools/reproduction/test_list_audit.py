"""Audit of lists: counts of a few rows, and of the published lists."""

import json

import pytest

from rsft.errors import RequestError
from tests.helpers.messages import mentions
from tools.reproduction.list_audit import audit_fusrs_lists, main

TRAIN = (
    "L1_1.png 0\nL2_1.png 1\nL2_1.png 1\nShip_C01S01N0001.png 0\nShip_C07S11N0002.png"
    " 0\nL3 0\n"
)
TEST = "L1_2.png 0\nL4_1.png 0\nShip_C07S11N0002.png 1\nShip_C99S01N0001.png 0\n"


def counts(audit):
    return {finding.description: finding.count for finding in audit.findings}


@pytest.fixture
def audit(tmp_path):
    (tmp_path / "v25_train.txt").write_text(TRAIN)
    (tmp_path / "v25_test.txt").write_text(TEST)
    [result] = audit_fusrs_lists(tmp_path)
    return result


def test_faults_are_counted_by_class_and_origin(audit, tmp_path):
    assert list(counts(audit).values()) == [1, 0, 1, 1, 1, 1, 2, 1]
    assert audit.findings[0].examples == ("L2_1 (v25_train.txt:3)",)
    assert audit.findings[4].total == 2 and audit.findings[6].total == 3
    assert (
        audit.totals["distinct names in all"] == 7
        and audit.totals["files as published"] == "no"
    )
    assert audit.classes["cargo"]["FUSAR-Ship C99 unknown"] == {"train": 0, "test": 1}
    assert audit.classes["cargo"]["SRSDD"] == {"train": 1, "test": 2}
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match=mentions("no list", "FUSRS v2")):
        audit_fusrs_lists(tmp_path / "empty")


def test_findings_are_shown_and_written(audit, tmp_path, capsys):
    main(tmp_path, tmp_path / "audit.json")
    printed = capsys.readouterr().out
    assert "L2_1 (v25_train.txt:3)" in printed and "FUSAR-Ship C07 Other" in printed
    [read] = json.loads((tmp_path / "audit.json").read_text("utf-8"))
    assert read["clean"] is False and read["findings"][3]["examples"] == ["L1"]
    assert read["classes"] == audit.classes


@pytest.mark.realdata
def test_the_published_lists(shared):
    four, five = audit_fusrs_lists(shared("fusrs_lists"))
    assert list(counts(four).values())[:6] == [864, 151, 101, 131, 218, 0]
    assert four.findings[4].total == 880
    assert [four.totals[f"distinct {name} names"] for name in ("training", "test")] == [
        4397,
        1549,
    ]
    assert list(counts(five).values())[:6] == [864, 151, 101, 131, 220, 0]
    assert five.classes["other"]["FUSAR-Ship C01 Cargo"] == {"train": 1692, "test": 422}
    assert not any(
        "C01" in origin for origins in four.classes.values() for origin in origins
    )
    assert (
        four.totals["files as published"] == five.totals["files as published"] == "yes"
    )
