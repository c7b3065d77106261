"""Numbers and enumerations as text."""

from types import SimpleNamespace

import pytest

from rsft.evaluation.report.render import (
    fill_template,
    format_bytes,
    format_duration,
    format_percent,
    join_words,
    pluralize,
    points_apart,
    write_page,
)


@pytest.mark.parametrize(
    ("value", "reference", "text"),
    [
        (0.512, 0.5, "1.2 points above"),
        (0.488, 0.5, "1.2 points below"),
        (0.5004, 0.5, "level with"),
        (0.5006, 0.5, "0.1 points above"),
        (0.7325, 0.675, "5.8 points above"),  # 5.75: as the table of differences
    ],
)
def test_the_difference_of_two_accuracies(value, reference, text):
    assert points_apart(value, reference) == text


def test_counts_and_percent():
    counts = [pluralize(count, "chip") for count in (0, 1, 2, 1200)]
    assert counts == ["0 chips", "1 chip", "2 chips", "1,200 chips"]
    assert (format_percent(0.1234), format_percent(1)) == ("12.3", "100.0")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "0.2 s"),
        (59.9, "59.9 s"),
        (60, "1 min 0 s"),
        (125.4, "2 min 5 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (7384, "2 h 3 min"),
    ],
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (1234, "1 kB"),
        (999_999, "1,000 kB"),
        (1_000_000, "1.0 MB"),
        (1_234_567_890, "1,234.6 MB"),
    ],
)
def test_bytes(count, text):
    assert format_bytes(count) == text


def test_enumerations():
    assert [join_words("abc"[:count]) for count in range(4)] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
    assert join_words([1, 2, 3], "or") == "1, 2 or 3"


def test_a_page_escapes_what_it_is_given(tmp_path):
    evaluation = SimpleNamespace(count=1234, data="d", split="test", notes=["odd"])
    run = SimpleNamespace(folder="<b>", evaluation=evaluation)
    content = {"run": run, "scenes": [], "table": "", "report": None}
    path = write_page(tmp_path / "a.html", "notebook.html", content)
    assert path.read_text() == fill_template("notebook.html", content)
    assert path.read_text().splitlines() == [
        "<p>&lt;b&gt;: accuracy in % on 1,234 chips of d, split test</p>",
        "",
        "<p>odd</p>",
    ]
