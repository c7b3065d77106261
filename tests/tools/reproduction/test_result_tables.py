"""Tables of pages from the results of studies: current in the documentation, numbers by
the study, unknown rows."""

from pathlib import Path

import pytest

from tests.helpers.plugins import needs_plugin
from tools.reproduction.result_tables import ROOT, fill_tables

PAGES = [
    page
    for page in sorted((ROOT / "docs").rglob("*.md"))
    if "<!-- end -->" in page.read_text("utf-8")
]


@needs_plugin("authors_schedule", "huggingface", "short_epochs")  # of the studies
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tables_of_pages_are_those_of_their_results(page: Path):
    text = page.read_text("utf-8")
    assert fill_tables(text) == text, (
        f"run: python -m tools.reproduction.result_tables {page.relative_to(ROOT)}"
    )


def test_a_table_is_written_between_its_comments():
    marker = (
        "<!-- accuracy mstar_lt_pairs from mstar_lt: LoRA; MetaLoRA, as in the"
        " paper -->"
    )
    lines = fill_tables(
        f"before\n{marker}\n| stale |\n<!-- end -->\nafter"
    ).splitlines()
    assert lines[:2] == ["before", marker] and lines[-2:] == ["<!-- end -->", "after"]
    assert [line.split(" | ")[:4] for line in lines[5:7]] == [
        ["| LoRA", "20", "77.5 ± 0.5", "58.0 ± 1.2"],
        ["| MetaLoRA, as in the paper", "20", "75.4 ± 0.6", "54.3 ± 1.6"],
    ]
    assert lines[6].split(" | ")[4].startswith("-2.1 ± 0.5 (p < 0.001)")


def test_all_held_out_chips_are_beside_the_reported_ones_where_they_differ():
    marker = (
        "<!-- methods mstar_lt_methods from mstar_lt_methods: MetaLoRA on the embedded"
        " encoder; small network -->"
    )
    rows = fill_tables(f"{marker}\n<!-- end -->").splitlines()[4:6]
    assert rows[0].startswith(
        "| MetaLoRA on the embedded encoder | 5 | 91.8 ± 0.7 | 91.2 ± 1.4 | 69.6 ± 1.2"
        " (71.4) | 84.9 ± 0.6 | "
    )
    assert rows[1].startswith(
        "| small network | 5 | 98.4 ± 0.5 | 96.7 ± 0.3 | 70.1 ± 2.1 | 89.2 ± 0.5 |  | "
    )


def test_chips_for_choices_have_a_table_by_seed_or_by_value_of_the_grid():
    marker = "<!-- choice mstar_lt_pairs from mstar_lt: LoRA, best of 5 rates -->"
    header, _, row, *_ = fill_tables(f"{marker}\n<!-- end -->").splitlines()[2:]
    assert "x0.25 | x0.5 | x1 | x2 | x4" in header and row.startswith(
        "| LoRA, best of 5 rates | 20 of 20 | macro | "
    )
    marker = "<!-- choice stock_peft from stock_peft: stock Hugging Face PEFT -->"
    header, _, row, *_ = fill_tables(f"{marker}\n<!-- end -->").splitlines()[2:]
    assert (
        header == "| macro / tail | seed 0 | seed 1 | seed 2 | seed 3 | seed 4 | mean |"
    )
    assert row.endswith("57.3 / 20.8 |") and row.count(" / ") == 6


def test_an_unknown_row_is_named():
    with pytest.raises(SystemExit, match="mstar_lt_pairs has no row LORA"):
        fill_tables(
            "<!-- accuracy mstar_lt_pairs from mstar_lt: LORA -->\n<!-- end -->"
        )
