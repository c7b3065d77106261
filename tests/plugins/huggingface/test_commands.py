"""`rsft recipes methods`."""

import json

import pytest

from rsft.peft import METHODS
from tests.helpers.plugins import needs_plugin

pytestmark = [needs_plugin("huggingface"), pytest.mark.slow]


def test_methods_are_listed_with_what_they_can_do(rsft, monkeypatch):
    from rsft.plugins.huggingface import listing

    monkeypatch.setattr(listing, "list_tuners", lambda: ("LORA", "LILY", "CPT"))
    pytest.importorskip("peft", reason="Hugging Face PEFT is not installed")
    code, printed = rsft("recipes", "methods", "--json")
    assert code == 0
    rows = {row["name"]: row for row in json.loads(printed[printed.index("[") :])}
    assert set(METHODS) - {"hf"} <= rows.keys()
    assert rows["hf LORA"] == {
        "name": "hf LORA",
        "trained_parameters": 8 * (1024 + 512 + 1280 + 1280),  # qkv, out, MLP 1 and 2
        "merges": True,
        "has_scales": True,
        "reason": "",
    }
    assert not rows["hf LILY"]["merges"] and "prompts" in rows["hf CPT"]["reason"]
    assert rows["adapter"]["has_scales"] and not rows["bitfit"]["has_scales"]
    code, printed = rsft("recipes", "methods")
    assert code == 0 and "not usable" in printed and "hf CPT" in printed


def test_without_the_package_the_list_says_so(rsft, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    code, printed = rsft("recipes", "methods")
    assert code == 0 and "pip install peft" in printed and "lora" in printed
