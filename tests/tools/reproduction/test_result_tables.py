"""Tables of pages from the results of studies: current in the documentation, numbers by the study, unknown rows."""

from pathlib import Path

import pytest

from tools.reproduction.result_tables import ROOT, fill_tables

PAGES = [page for page in sorted((ROOT / "docs").rglob("*.md")) if "<!-- end -->" in page.read_text("utf-8")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tables_of_pages_are_those_of_their_results(page: Path):
    text = page.read_text("utf-8")
    assert fill_tables(text) == text, f"run: python -m tools.reproduction.result_tables {page.relative_to(ROOT)}"


def test_a_table_is_written_between_its_comments():
    marker = "<!-- accuracy mstar_lt_pairs from mstar_lt: LoRA; MetaLoRA, as in the paper -->"
    lines = fill_tables(f"before\n{marker}\n| stale |\n<!-- end -->\nafter").splitlines()
    assert lines[:2] == ["before", marker] and lines[-2:] == ["<!-- end -->", "after"]
    assert [line.split(" | ")[:4] for line in lines[5:7]] == [
        ["| LoRA", "20", "77.5 ± 0.5", "58.0 ± 1.2"],
        ["| MetaLoRA, as in the paper", "20", "75.4 ± 0.6", "54.3 ± 1.6"],
    ]
    assert lines[6].split(" | ")[4].startswith("-2.1 ± 0.5 (p < 0.001)")


def test_an_unknown_row_is_named():
    with pytest.raises(SystemExit, match="mstar_lt_pairs has no row LORA"):
        fill_tables("<!-- accuracy mstar_lt_pairs from mstar_lt: LORA -->\n<!-- end -->")
