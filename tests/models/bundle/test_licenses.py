"""Licenses in bundles, and sentences about them."""

import json
from dataclasses import replace

from rsft.models.bundle.bundle import Bundle, read_licenses
from rsft.models.bundle.manifest import restriction_sentence, source_license, unknown_sentence

SATMAE = source_license("backbone", "satmae", "unknown; the code is CC-BY-NC-4.0")
DOTA = source_license("data", "DOTA", "academic use only, non-commercial")
FREE = source_license("backbone", "simship", "MIT")
UNKNOWN = source_license("data", "bars", "unknown")


def test_a_run_records_the_licenses_of_backbone_and_data(run):
    expected = (source_license("backbone", "vit_tiny_patch8_64.simship", "MIT"), UNKNOWN)
    assert read_licenses(run) == Bundle.load(run).licenses == expected
    assert [entry.restrictions for entry in expected] == [(), ("unknown",)]


def test_licenses_survive_saving(run, tmp_path):
    replace(Bundle.load(run), licenses=(SATMAE, DOTA)).save(tmp_path / "bundle")
    assert read_licenses(tmp_path / "bundle") == Bundle.load(tmp_path / "bundle").licenses == (SATMAE, DOTA)
    index = json.loads((tmp_path / "bundle/bundle.json").read_text())
    assert index["format"] == 3 and index["licenses"][0] == {
        "source": "backbone",
        "name": "satmae",
        "license": "unknown; the code is CC-BY-NC-4.0",
        "restrictions": ["non-commercial", "unknown"],
    }


def test_only_stated_restrictions_are_a_warning():
    assert restriction_sentence([FREE, UNKNOWN]) is None
    assert restriction_sentence([SATMAE, DOTA]) == (
        "licenses restrict the use of this bundle: non-commercial (backbone satmae);"
        " non-commercial, research-only (data DOTA)"
    )


def test_sources_with_unknown_licenses_are_named_once():
    assert unknown_sentence([FREE, DOTA]) is None
    assert unknown_sentence([SATMAE, UNKNOWN, UNKNOWN]) == (
        "the license or its terms are unknown: backbone satmae, data bars"
    )
