"""The section of a run whose recipe rsft chose."""

import json

from rsft.evaluation.report.pages import write_report
from tests.helpers.fake_run import SHIPS, write_fake_run


def test_table_of_candidates(tmp_path):
    run = write_fake_run(tmp_path, SHIPS)
    assert 'id="choice"' not in write_report(run).read_text("utf-8")
    row = {
        "candidate": "small network",
        "epochs": 40,
        "folds": 3,
        "macro": 0.841,
        "macro_spread": 0.012,
    }
    row |= {
        "tail": None,
        "tail_spread": None,
        "cpu_seconds": 61.4,
        "chosen": True,
        "fault": "",
    }
    failed = row | {
        "candidate": "<LoRA>",
        "macro": None,
        "chosen": False,
        "fault": "no weights",
    }
    choice = {
        "sentence": "chosen: small network, macro 84.1 ± 1.2 in 3 folds",
        "notes": ["x is not measured"],
    }
    metadata = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(
        json.dumps(metadata | {"choice": choice | {"candidates": [row, failed]}})
    )
    page = write_report(run).read_text("utf-8")
    section = page[page.index('id="choice"') : page.index('id="training"')]
    assert (
        "Chosen: small network, macro 84.1 ± 1.2 in 3 folds." in section
        and "X is not measured." in section
    )
    assert (
        "<small>chosen</small>" in section
        and "84.1 ± 1.2" in section
        and "<td>61</td>" in section
    )
    assert "&lt;LoRA&gt;" in section and "failed: no weights" in section
    assert 'href="#choice"' in page
