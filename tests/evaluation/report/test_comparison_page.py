import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from rsft.errors import RequestError
from rsft.evaluation.files import compare_runs
from rsft.evaluation.report.charts import ParetoPoint, pareto_front
from rsft.evaluation.report.maps import SIDE
from rsft.evaluation.report.pages import write_comparison
from rsft.metrics.intervals import Interval
from tests.helpers.fake_run import SHIPS, write_fake_run
from tests.helpers.report_page import Page


@pytest.fixture
def runs(tmp_path):
    """Return a MetaLoRA run and a LoRA run that took a quarter of the time."""
    runs = [
        write_fake_run(tmp_path / name, SHIPS, modulated=name == "meta")
        for name in ("meta", "plain")
    ]
    edit(runs[1], "run.json", seconds=49.1, trained_parameters=74_000)
    return runs


def edit(run, file, **values):
    (run / file).write_text(json.dumps(json.loads((run / file).read_text()) | values))


def page(runs, tmp_path):
    return Page(
        write_comparison(runs, tmp_path / "page.html").read_text(encoding="utf-8")
    )


def test_accuracy_side_by_side(runs, tmp_path):
    methods = [
        json.loads((run / "evaluation/metrics.json").read_text())["methods"]
        for run in runs
    ]
    summaries = [next(iter(by_name.values())) for by_name in methods]
    rows = {row[0]: row[1:] for row in page(runs, tmp_path).tables[1]}
    assert rows["Measure"] == ["A", "B"]
    values = [summary["tail"]["value"] for summary in summaries]
    shown = [
        f"{100 * value:.1f}" + " (best)" * (value == max(values)) for value in values
    ]
    assert rows["Tail"] == shown


def test_differences_are_those_of_the_paired_bootstrap(runs, tmp_path):
    expected = compare_runs(runs[1], runs[0]).paired
    table = page(runs, tmp_path).tables[2]
    row = dict(zip(table[0], table[1], strict=True))
    assert row["Overall"] == f"{100 * expected.differences['micro'].value:+.1f}"
    assert row["Tail"] == f"{100 * expected.differences['tail'].value:+.1f}"
    assert row["p (McNemar)"] == f"{expected.mcnemar['all'].p:.2g}"


@pytest.mark.slow
def test_cost_and_recipes(runs, tmp_path):
    comparison = page(runs, tmp_path)
    assert "different machines" not in comparison.sections["pareto"]
    assert "Modulator" in [row[0] for row in comparison.tables[4]]
    rows = {row[0]: row[1:] for row in comparison.tables[5]}
    assert rows["meta.lr"] == ["0.01", "null"] and "train.epochs" not in rows
    assert "tail accuracy, in %" in comparison.sections["pareto"]
    edit(runs[1], "run.json", device="cuda:0")
    assert "different machines" in page(runs, tmp_path).sections["pareto"]


def test_features_side_by_side(runs, tmp_path):
    table = pd.read_parquet(runs[0] / "evaluation/embedding.parquet")
    mirrored = table.assign(adapted_x=-table["adapted_x"])
    mirrored.to_parquet(runs[1] / "evaluation/embedding.parquet")
    html = write_comparison(runs, tmp_path / "page.html").read_text(encoding="utf-8")
    comparison = Page(html)
    assert (
        len(
            [
                1
                for attributes in comparison.all("svg")
                if attributes.get("class") == "map"
            ]
        )
        == 2
    )
    assert "A: MetaLoRA (fusrs_lt_metalora/001)" in comparison.sections["features"]
    data = json.loads(re.search(r'id="points">(.*?)</script>', html).group(1))
    assert (data["labels"], data["classes"], data["sheet"]) == (["A", "B"], SHIPS, None)
    points, labels, predicted = zip(*data["chips"], strict=True)
    left = np.array(points)[:, :2]
    right = np.array(points)[:, 2:]
    np.testing.assert_allclose(left[:, 0] + right[:, 0], SIDE, atol=0.11)
    np.testing.assert_array_equal(left[:, 1], right[:, 1])
    assert [SHIPS[label] for label in labels] == table["class"].tolist()
    for number, run in enumerate(runs):
        expected = pd.read_parquet(run / "evaluation/predictions.parquet").set_index(
            "path"
        )["predicted"]
        assert [SHIPS[row[number]] for row in predicted] == expected[
            table["path"]
        ].tolist()


@pytest.mark.slow
def test_runs_without_a_map_say_why(runs, tmp_path):
    other = write_fake_run(tmp_path / "other", ["cargo", "tanker"])
    (runs[1] / "evaluation/embedding.parquet").unlink()
    text = page([*runs, other], tmp_path).sections["features"]
    assert "No map of B: evaluation/embedding.parquet is missing" in text
    assert "No map of C: its chips or classes differ from those of A" in text
    for run in (runs[0], other):
        (run / "evaluation/embedding.parquet").unlink()
    assert (
        "embedding.parquet is missing in all runs"
        in page([*runs, other], tmp_path).sections["features"]
    )


@pytest.mark.slow
def test_at_most_six_maps(runs, tmp_path):
    copies = [
        shutil.copytree(runs[0], tmp_path / f"copy/{number}") for number in range(7)
    ]
    assert (
        "No map of G: a page has at most 6 maps"
        in page(copies, tmp_path).sections["features"]
    )


@pytest.mark.slow
def test_modulators_side_by_side(runs, tmp_path):
    second = write_fake_run(tmp_path / "second", SHIPS)
    table = pd.read_csv(second / "modulator.csv")
    # all scales half as far from the start
    table["value"] = 1 + (table["value"] - 1) / 2
    table.to_csv(second / "modulator.csv", index=False)
    comparison = page([runs[0], runs[1], second], tmp_path)
    text = comparison.sections["modulators"]
    assert (
        "Without a modulator: B." in text
        and text.count("After the last epoch: strongest at") == 2
    )
    last = pd.read_csv(runs[0] / "modulator.csv").query("epoch == 11")
    rows = {row[0]: row[1:] for row in comparison.tables[3]}
    assert rows["Position"] == ["A", "C"]
    mean = last[last.position == "mlp1"]["value"].mean()
    assert rows["mlp1"] == [f"{mean:.2f}", f"{1 + (mean - 1) / 2:.2f}"]
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    shades = re.findall(r'fill-opacity="([\d.]+)" class="shade (?:above|below)', html)
    sites = len(last)  # the site cells of a map, then the five cells of its color key
    strong, weak = (
        np.array(shades[start : start + sites], float) for start in (0, sites + 5)
    )
    np.testing.assert_allclose(strong, 2 * weak, atol=0.002)
    plain = shutil.copytree(runs[1], tmp_path / "plain copy/001")
    assert (
        "None of these runs has a modulator"
        in page([runs[1], plain], tmp_path).sections["modulators"]
    )


@pytest.mark.slow
def test_runs_that_cannot_be_compared_say_why(runs, tmp_path):
    other = write_fake_run(tmp_path / "other", ["cargo", "tanker"])
    bare = write_fake_run(tmp_path / "bare", SHIPS)
    (bare / "evaluation/metrics.json").unlink()
    short = write_fake_run(tmp_path / "short", SHIPS)
    path = short / "evaluation/predictions.parquet"
    pd.read_parquet(path).iloc[1:].to_parquet(path)
    rows = page([runs[0], other, bare, short], tmp_path).tables[2][1:]
    reasons = (
        "different classes",
        "metrics.json or predictions.parquet is missing",
        "1,199 and 1,200 chips",
    )
    for row, reason in zip(rows, reasons, strict=True):
        assert row[1].startswith("Not comparable") and reason in row[1]


def test_runs_that_were_not_evaluated(runs, tmp_path):
    for run in runs:
        (run / "evaluation/metrics.json").unlink()
    sections = page(runs, tmp_path).sections
    assert (
        "None of these runs" in sections["accuracy"]
        and "No chart" in sections["pareto"]
    )


def test_a_single_run_and_a_repeated_run_are_refused(runs, tmp_path):
    for wrong in (runs[:1], [runs[0], runs[0]]):
        with pytest.raises(RequestError, match="cannot be compared"):
            write_comparison(wrong, tmp_path / "page.html")


def test_the_front_holds_the_runs_that_no_other_beats():
    def point(letter, cost, value):
        return ParetoPoint(
            letter, 0, cost, Interval(value=value, low=value, high=value)
        )

    points = [
        point("a", 1, 0.5),
        point("b", 2, 0.4),
        point("c", 2, 0.7),
        point("d", 3, 0.7),
        point("e", 9, 0.9),
    ]
    assert "".join(run.letter for run in pareto_front(points)) == "ace"
    assert (
        "".join(run.letter for run in pareto_front([*points, point("f", 2, 0.7)]))
        == "acfe"
    )


@pytest.mark.slow
def test_from_the_command_line(runs, tmp_path, rsft):
    assert rsft("report", "compare", *runs)[0] == 0
    code, printed = rsft("report", "compare", *runs)
    assert code == 2 and "--overwrite" in printed
    assert rsft("report", "compare", *runs, "--overwrite")[0] == 0
    assert "side by side" in (tmp_path / "comparison.html").read_text()
    assert rsft("report", runs[0], "--no-pictures")[0] == 0
    assert "left out on request" in (runs[0] / "report.html").read_text()
    assert rsft("report", "--no-pictures", "run", runs[0])[0] == 2
    code, printed = rsft("report", "nowhere")
    assert code == 2 and "not a run folder" in printed
