import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rsft.errors import DataError, RequestError
from rsft.evaluation.report.pages import write_report
from rsft.models.bundle.bundle import Bundle, source_license
from tests.helpers.fake_run import SHIPS, change_metrics, read_metrics, write_fake_run
from tests.helpers.messages import mentions
from tests.helpers.plugins import needs_plugin
from tests.helpers.report_page import page_of

COMPAT = Path(__file__).parents[2] / "compat/0.2"


@pytest.fixture
def run(tmp_path):
    return write_fake_run(tmp_path, SHIPS)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of `run` as it is written."""
    return page_of(write_fake_run(tmp_path_factory.mktemp("page"), SHIPS))


def test_the_page_has_every_section(page):
    sections = page.sections
    names = [
        "header",
        "groups",
        "classes",
        "confusion",
        "gallery",
        "confidence",
        "method",
    ]
    names += ["training", "features", "sites", "cost", "data", "reproduce"]
    assert list(sections) == names
    assert "LoRA with learned scales and the classifier head" in sections["method"]
    assert "rank: 4" in sections["method"]
    assert (
        "3 min 16 s" in sections["cost"] and "74,304 of 2,861,000" in sections["cost"]
    )
    assert (
        "rsft finetune runs/fusrs_lt_metalora/001/recipe.yaml" in sections["reproduce"]
    )
    assert "c0" * 32 in sections["reproduce"] and "2.13.0+cpu" in sections["reproduce"]


@pytest.mark.slow
@needs_plugin("trackers")
def test_licenses_of_the_bundle_are_shown(run):
    assert "License of the" not in page_of(run).sections["reproduce"]
    licenses = (
        source_license("backbone", "vit", "DINOv3 License"),
        source_license("data", "bars", "unknown"),
    )
    replace(Bundle.load(COMPAT / "run"), licenses=licenses).save(run / "bundle")
    page = write_report(run).read_text(encoding="utf-8")
    assert (
        "<dt>Restrictions</dt><dd>no-military, no-weapons, no-nuclear,"
        " no-espionage</dd>" in page
    )
    restrictions = "no-military, no-weapons, no-nuclear, no-espionage"
    assert (
        f"<dt>License of the backbone</dt><dd>DINOv3 License ({restrictions})</dd>"
        in page
    )
    assert "<dt>License of the data</dt><dd>unknown</dd>" in page


def test_the_numbers_are_those_of_metrics_json(run, page):
    methods = read_metrics(run)["methods"]
    names = {"Overall": "micro", "Mean of groups": "avg", "Macro F1": "macro_f1"}
    names |= {group.capitalize(): group for group in ("head", "medium", "tail")}
    assert page.tables[0][0] == ["Measure", *methods]
    rows = {row[0]: row[1:] for row in page.tables[0][1:]}
    for label, measure in names.items():
        values = [summary[measure]["value"] for summary in methods.values()]
        assert rows[label] == [f"{100 * value:.1f}" for value in values]
    assert rows["Calibration error"][0].startswith(
        f"{100 * methods['MetaLoRA']['ece']:.1f}"
    )


def test_classes_with_counts_recall_and_precision(run, page):
    expected = read_metrics(run)
    summary = expected["methods"]["MetaLoRA"]
    rows = page.tables[1][1:]
    assert [row[0] for row in rows] == SHIPS
    assert [int(row[2]) for row in rows] == expected["train_counts"]
    assert [row[3] for row in rows] == [
        f"{100 * value:.1f}" for value in summary["recall"]
    ]
    assert [row[4] for row in rows] == [
        f"{100 * value:.1f}" for value in summary["precision"]
    ]


def test_the_page_loads_nothing_from_elsewhere(page):
    assert not re.search(r"https?://|//\w+\.\w+/|@import|url\(", page.html)
    links = {
        attrs[key] for _, attrs in page.tags for key in ("src", "href") if key in attrs
    }
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert (
        {link for link in links if link[0] == "#"}
        == links
        <= {f"#{name}" for name in ids}
    )
    assert len(ids) == len(set(ids))
    assert page.all("meta")[-1]["content"].startswith("default-src 'none'")


def test_the_page_is_accessible(page):
    assert all(attrs["scope"] in ("col", "row") for attrs in page.all("th"))
    assert len(page.all("h1")) == len(page.all("main")) == len(page.all("nav")) == 1
    assert page.all("html")[0]["lang"] == "en"
    figures = [attrs for attrs in page.all("svg") if "aria-hidden" not in attrs]
    assert len(figures) == 6
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in figures)
    named = {attrs["for"] for attrs in page.all("label") if "for" in attrs}
    controls = page.all("select") + [
        attrs for attrs in page.all("input") if attrs["type"] != "radio"
    ]
    assert {attrs["id"] for attrs in controls} == named
    assert all(
        attrs["aria-label"] for _, attrs in page.tags if attrs.get("role") == "group"
    )
    assert "width=device-width" in page.all("meta")[1]["content"]


@pytest.mark.slow
def test_names_are_escaped(tmp_path):
    names = ["<b>x</b>", "a&b", '"quoted"', "</script><script>alert(1)</script>"]
    page = page_of(write_fake_run(tmp_path, names))
    assert [row[0] for row in page.tables[1][1:]] == names
    assert not page.all("b")
    assert len(page.all("script")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 100])
def test_few_and_many_classes(tmp_path, count):
    run = write_fake_run(
        tmp_path, [f"class {index}" for index in range(count)], blocks=24
    )
    page = page_of(run)
    assert len(page.tables[1]) == count + 1
    assert (run / "report.html").stat().st_size < 1e6


@pytest.mark.slow
def test_plain_lora_without_baselines(tmp_path):
    page = page_of(
        write_fake_run(tmp_path, SHIPS, modulated=False, baselines=False, epochs=1)
    )
    assert "plain PEFT" in page.sections["sites"]
    assert (
        "No baselines" in page.sections["groups"]
        and "best" not in page.sections["groups"]
    )
    assert "outer loop" not in page.sections["training"]


def test_the_comparison_with_the_small_network_is_a_sentence(tmp_path):
    run = write_fake_run(tmp_path, SHIPS, epochs=1)
    assert "below a small" not in page_of(run).sections["header"]
    difference = {"value": -0.02, "low": -0.03, "high": -0.01}
    change_metrics(run, small_network={"epochs": 12, "macro_difference": difference})
    text = " ".join(page_of(run).sections["header"].split())
    assert "MetaLoRA is below a small network without pre-training" in text
    assert (
        "-3.0 to -1.0; 12 epochs" in text
        and "consider the recipe mstar_lt_small" in text
    )


@pytest.mark.parametrize(
    ("file", "section", "reason"),
    [
        ("modulator.csv", "sites", "modulator.csv is missing"),
        ("metrics.csv", "training", "metrics.csv is missing"),
        ("evaluation/metrics.json", "groups", "was not evaluated"),
        ("evaluation/metrics.json", "confidence", "was not evaluated"),
        ("evaluation/predictions.parquet", "gallery", "predictions.parquet is missing"),
        ("evaluation/predictions.parquet", "confidence", "No reliability diagram"),
        ("evaluation/embedding.parquet", "features", "embedding.parquet is missing"),
        ("bundle/weights.safetensors", "data", "are not those of the run"),
    ],
)
def test_a_missing_file_leaves_its_section_out_and_the_page_says_why(
    run, file, section, reason
):
    (run / file).unlink()
    sections = page_of(run).sections
    assert reason in sections[section]
    assert len(sections) == 13


def test_a_group_without_classes_and_a_class_without_test_chips(run):
    metrics = read_metrics(run)
    for summary in metrics["methods"].values():
        summary["medium"] = None
        summary["recall"][1] = None
        summary["precision"][1] = None
    metrics["groups"]["medium"] = []
    metrics["confusion"][1] = [0, 0, 0, 0]
    change_metrics(run, **metrics)
    page = page_of(run)
    assert "Medium" not in [row[0] for row in page.tables[0]]
    assert "left out of all means of recall: fishing" in page.sections["classes"]
    assert next(row for row in page.tables[1] if row[0] == "fishing")[1:] == [
        "–",
        "86",
        "–",
        "–",
        "0",
        "–",
    ]


def test_the_status_of_an_interrupted_run_is_shown(run):
    metadata = {"status": "interrupted", "started": "2026-03-02T09:14:05+00:00"}
    (run / "run.json").write_text(json.dumps(metadata))
    assert "interrupted" in page_of(run).sections["header"]


def test_epochs_without_validation_are_skipped(run):
    table = pd.read_csv(run / "metrics.csv")
    table.loc[3:5, "val_tail"] = np.nan
    table["val_medium"] = np.nan
    table.to_csv(run / "metrics.csv", index=False)
    html = write_report(run).read_text()
    assert not re.search(r"\bnan\b", html, re.IGNORECASE)
    path = re.search(
        r'<path d="([^"]*)" style="fill: none; stroke-dasharray[^"]*var\(--tail\)', html
    )[1]
    assert (path.count("M"), path.count("L")) == (1, len(table) - 3 - 1)


def test_scales_that_are_not_numbers_are_not_drawn(run):
    table = pd.read_csv(run / "modulator.csv")
    table.loc[table.epoch == 11, "value"] = np.nan
    table.to_csv(run / "modulator.csv", index=False)
    assert "not numbers" in page_of(run).sections["sites"]


def test_a_folder_that_is_not_a_run_folder_is_refused(tmp_path):
    with pytest.raises(RequestError, match=mentions("run folder")):
        write_report(tmp_path)


METRICS_HEADER = "epoch,train_loss,meta_loss,val_loss,val_macro,val_head,val_medium,val_tail,seconds,images_per_s\n"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("run.json", "{"),
        ("metrics.csv", "epoch\n1\n"),
        ("metrics.csv", ""),
        ("evaluation/metrics.json", '{"data": 1}'),
        ("evaluation/metrics.json", "[]"),
        ("evaluation/predictions.parquet", "no table"),
        ("evaluation/embedding.parquet", ""),
        ("modulator.csv", "epoch,block,position,value\n0,0,q,1\n1,0,q,1-\n"),
        ("modulator.csv", "epoch,block,position,value\n0,0,,1\n"),
        ("metrics.csv", METRICS_HEADER + "true,1,,1,.5,,,,2,3\n"),
        ("metrics.csv", METRICS_HEADER + "0,1,    ,1,.5,,,,2,3\n"),
        ("run.json", "[" * 100_000),
        ("evaluation/metrics.json", "[" * 100_000),
    ],
)
def test_a_damaged_file_is_named(run, file, text):
    (run / file).write_text(text)
    with pytest.raises(DataError, match=mentions("damaged")) as caught:
        write_report(run)
    assert caught.value.location.endswith(file)


def test_lists_that_do_not_fit_the_classes_are_refused(run):
    change_metrics(run, train_counts=[1, 2])
    with pytest.raises(DataError, match=mentions("one entry per class")):
        write_report(run)


def test_an_index_of_no_class_is_refused(run):
    groups = {"head": [0], "medium": [], "tail": [7]}
    change_metrics(run, groups=groups)
    with pytest.raises(DataError, match=mentions("belongs to no class")):
        write_report(run)


def test_a_class_without_coverage_that_does_not_exist_is_refused(run):
    confidence = read_metrics(run)["confidence"]
    confidence["coverage"][0]["classes_without_coverage"] = [9]
    change_metrics(run, confidence=confidence)
    with pytest.raises(DataError, match=mentions("belongs to no class")):
        write_report(run)


@pytest.mark.slow
def test_the_same_run_gives_the_same_page(run):
    assert write_report(run).read_bytes() == write_report(run).read_bytes()
