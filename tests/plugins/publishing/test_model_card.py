"""The model card has the front matter of the Hub, and shows names as text."""

import json
from dataclasses import replace

import pytest
import yaml

from rsft.errors import DataError, RequestError
from rsft.models.bundle.bundle import source_license, spdx_license
from rsft.models.inspection.describe import EncoderOrigin
from rsft.plugins.publishing.hub import (
    MAX_CLASSES,
    front_matter,
    render_card,
    write_model_card,
)
from rsft.plugins.publishing.source import read_source


def test_the_hub_reads_the_front_matter(ships):
    hub = pytest.importorskip(
        "huggingface_hub", reason="huggingface_hub is not installed"
    )
    card = hub.ModelCard(
        write_model_card(ships, repository="analyst/ships").read_text("utf-8")
    )
    assert card.data.license == "unknown" and card.data.library_name == "rsft"
    assert (
        card.data.pipeline_tag == "image-classification" and card.data.tags[0] == "rsft"
    )


def test_the_card_says_what_the_bundle_knows(ships):
    text = write_model_card(ships, repository="analyst/ships").read_text("utf-8")
    rows = text.splitlines()
    source = read_source(ships)
    [tanker] = [row for row in rows if row.startswith("| tanker | tail | 4 | ")]
    measured = source.measurements[0]
    assert tanker.endswith(
        f"| {100 * measured.recall[2]:.1f} % | {measured.class_chips[2]} |"
    )
    for name in ("MetaLoRA", "plain k-NN"):
        assert any(row.startswith(f"| {name} | ") for row in rows)
    assert (
        "| lora | 44.4 (29.6 to 59.3) | 44.4 (29.6 to 59.3) | 44.4 (29.6 to 59.3) |"
        in rows
    )
    assert "    hf download analyst/ships --local-dir ships" in rows
    assert "- backbone `vit_tiny_patch8_64.simship`: MIT" in rows
    assert "- unit: uint16 or uint8" in rows and source.bundle.sha256 in text


def test_a_base_model_is_a_repository_of_the_hub(ships):
    source = read_source(ships)
    assert "base_model" not in front_matter(source)
    front = front_matter(
        replace(source, encoder=EncoderOrigin("ViT", "https://x", "timm/vit"))
    )
    assert (front["base_model"], front["base_model_relation"]) == (
        "timm/vit",
        "adapter",
    )


def test_names_of_classes_stay_text(ships):
    source = read_source(ships)
    hostile = "![x](https://example.org/x.png)<script>|\n---\nlicense: mit"
    classes = ("cargo", hostile, "tanker")
    recipe = source.bundle.recipe.model_copy(update={"name": "a: [b"})
    bundle = replace(
        source.bundle, classes=classes, groups={"tail": classes}, recipe=recipe
    )
    text = render_card(replace(source, bundle=bundle))
    assert "![x](" not in text and "<script>" not in text and text.count("\n---\n") == 1
    assert (
        r"| !\[x\](https://example.org/x.png)&lt;script&gt;\| --- license: mit | tail"
        r" | 8 |" in text
    )
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "unknown"


def test_many_classes_are_counted(ships):
    source = read_source(ships)
    names = tuple(f"class {index}" for index in range(MAX_CLASSES + 1))
    counts = (1,) * len(names)
    bundle = replace(
        source.bundle,
        classes=names,
        train_counts=counts,
        groups={"tail": names},
        calibrator=None,
    )
    text = render_card(replace(source, bundle=bundle, measurements=()))
    assert "201 classes (201 tail)" in text and "class 7" not in text
    assert "Not measured." in text and "not calibrated" in text


def test_a_damaged_evaluation_is_named(ships):
    path = ships / "evaluation/metrics.json"
    path.write_text(json.dumps({"classes": []}))
    with pytest.raises(DataError, match="damaged"):
        write_model_card(ships)


def test_an_existing_card_stays(ships):
    path = write_model_card(ships)
    with pytest.raises(RequestError, match="exists"):
        write_model_card(ships)
    with pytest.raises(RequestError, match="name of a repository"):
        write_model_card(ships, repository="ships; ls", overwrite=True)
    assert write_model_card(ships, overwrite=True) == path


@pytest.mark.parametrize(
    ("backbone", "data", "stac", "hub"),
    [
        ("MIT", "MIT", "MIT", "mit"),
        ("MIT", "CC-BY-4.0", "other", "other"),
        ("MIT", "unknown", None, "unknown"),
        ("DINOv3 License", "DINOv3 License", "other", "other"),
    ],
)
def test_licenses(ships, backbone, data, stac, hub):
    source = read_source(ships)
    licenses = (
        source_license("backbone", "vit", backbone),
        source_license("data", "ships", data),
    )
    assert spdx_license(licenses) == stac and spdx_license([]) is None
    assert (
        front_matter(replace(source, bundle=replace(source.bundle, licenses=licenses)))[
            "license"
        ]
        == hub
    )
