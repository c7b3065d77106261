"""`rsft export` with a trained bundle and the chips of its training."""

import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from rsft.errors import RequestError, WeightsError
from rsft.inference.engines import traceable
from rsft.inference.engines.base import ENGINES, FORMATS
from rsft.inference.export.export import export_bundle, find_training_store
from rsft.models.bundle.bundle import Bundle
from tests.helpers.messages import mentions
from tests.helpers.plugins import needs_plugin
from tests.helpers.tiny_bundles import copy_with_early_head

ROOT = Path(__file__).parents[3]
DOC = (ROOT / "docs/engines.md").read_text("utf-8")


def test_the_chips_of_the_training_are_found_or_not(run, root):
    bundle = Bundle.load(run)
    assert find_training_store(bundle, None).root == root
    other = replace(bundle, classes=("barge", "tug"))
    assert find_training_store(other, None) is None
    with pytest.raises(RequestError, match="other classes than the bundle"):
        find_training_store(other, root)
    data = bundle.recipe.data.model_copy(update={"root": "absent"})
    assert (
        find_training_store(
            replace(bundle, recipe=bundle.recipe.model_copy(update={"data": data})),
            None,
        )
        is None
    )


@needs_plugin("exports")
@pytest.mark.slow
def test_an_export_that_differs_is_not_written(run, tmp_path, monkeypatch):
    trace_float32 = traceable.trace_network

    def trace_bfloat16(network, contract):
        return trace_float32(traceable.BFloat16Network(network), contract)

    monkeypatch.setattr(traceable, "trace_network", trace_bfloat16)
    with pytest.raises(
        WeightsError, match=mentions("differs from PyTorch", "0.001 is allowed")
    ):
        export_bundle(run, "torch-export", "fp32", tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("onnx", "fp32"),
        *(
            pytest.param(*case, marks=needs_plugin("exports"))
            for case in product(("openvino", "torch-export"), ("fp32", "bf16"))
        ),
    ],
)
def test_a_head_on_an_earlier_block_is_exported(run, tmp_path, name, precision):
    copy_with_early_head(Bundle.load(run)).save(tmp_path / "bundle")
    result = export_bundle(tmp_path / "bundle", name, precision, tmp_path / "out")
    assert (
        result.metadata["head"]["earlier_blocks"] == [0]
        and result.metadata["checked"]["largest"] < 0.2
    )


@needs_plugin("exports")
@pytest.mark.parametrize(
    ("registry", "column"), [(ENGINES, "--engine"), (FORMATS, "--format")]
)
def test_the_documentation_lists_every_component(registry, column):
    table = DOC.partition(f"| `{column}` |")[2].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (fp32[^|]*?) *\|", table, re.MULTILINE))
    documented = {
        name: tuple(precisions.split(", "))
        for name, precisions in rows.items()
        if name != "auto"
    }
    assert documented == {name: tuple(registry[name].precisions) for name in registry}


@needs_plugin("exports")
def test_the_documentation_says_what_opens_every_format():
    table = DOC.partition("| `--format` | opens with |")[2].partition("\n\n")[0]
    rows = re.findall(
        r"^\| `([\w-]+)` \| (.+?) \| (.+?) \| (.+?) \|$", table, re.MULTILINE
    )
    assert {name for name, *_ in rows} == set(FORMATS)
    for _, _, proofs, _ in rows:
        for file, _, test in (
            proof.partition("::") for proof in re.findall(r"`(.+?)`", proofs)
        ):
            assert f"def {test}" in (ROOT / file).read_text("utf-8"), file
