"""Commands of `rsft bundle` as a user types them."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from rsft.models.bundle.bundle import Bundle


def test_show(rsft, run):
    code, printed = rsft("bundle", "show", run)
    assert (
        code == 0
        and "the whole chip (most training chips have 32 x 32 pixels)" in printed
    )
    digest = Bundle.load(run).sha256
    assert digest in printed and "% on 18 chips of val" in printed
    rows = [line.split() for line in printed.splitlines()]
    assert ["license,", "backbone", "vit_tiny_patch8_64.simship:", "MIT"] in rows
    assert ["license,", "data", "bars:", "unknown"] in rows
    assert ["slanted", "tail", "4"] in rows
    code, printed = rsft("bundle", "show", run, "--json")
    assert code == 0 and json.loads(printed)["sha256"] == digest
    assert json.loads(printed)["licenses"] == [
        {
            "source": "backbone",
            "name": "vit_tiny_patch8_64.simship",
            "license": "MIT",
            "restrictions": [],
        },
        {
            "source": "data",
            "name": "bars",
            "license": "unknown",
            "restrictions": ["unknown"],
        },
    ]


@pytest.mark.slow
def test_verify(rsft, run, tmp_path):
    digest = Bundle.load(run).sha256
    code, printed = rsft("bundle", "verify", run, "--sha256", digest)
    assert code == 0 and printed.count("ok     ") == 5 and f"sha256 {digest}" in printed
    assert rsft("bundle", "verify", run, "--sha256", "beef")[0] == 1
    folder = shutil.copytree(run / "bundle", tmp_path / "bundle")
    (folder / "notes.txt").touch()
    (folder / "recipe.yaml").write_text("seed: 1")
    code, printed = rsft("bundle", "verify", folder)
    assert (
        code == 1
        and "fault  recipe.yaml is missing" in printed
        and "fault  notes.txt does not" in printed
    )
    assert rsft("bundle", "verify", tmp_path / "nowhere")[0] == 2


@pytest.mark.parametrize("options", [(), ("-o", "elsewhere")])
def test_a_checkpoint_becomes_a_bundle_beside_it(rsft, tmp_path, monkeypatch, options):
    outputs = []

    def make(checkpoint, out, *others):
        outputs.append((out, others))
        return ["a note"]

    # it would import Lightning, which takes seconds
    module = SimpleNamespace(bundle_from_checkpoint=make)
    monkeypatch.setitem(sys.modules, "rsft.torchgeo", module)
    code, printed = rsft("bundle", "from", tmp_path / "a.ckpt", *options)
    assert code == 0 and "note: a note" in printed
    out = Path(options[1]) if options else tmp_path / "bundle"
    assert outputs == [(out, (None, None, None))]
