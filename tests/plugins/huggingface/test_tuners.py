"""Configurations of tuners neither read files nor make requests."""

import dataclasses

import pytest

from tests.helpers.messages import mentions
from tests.helpers.plugins import needs_plugin

pytestmark = [needs_plugin("huggingface"), pytest.mark.slow]
peft = pytest.importorskip("peft", reason="Hugging Face PEFT is not installed")

from rsft.plugins.huggingface.tuners import (  # noqa: E402
    find_tuner,
    list_tuners,
    make_config,
)


def usable():
    return [name for name in list_tuners() if not find_tuner(name).unusable_reason()]


@pytest.mark.parametrize("name", usable())
def test_no_setting_names_a_file_a_model_or_a_layer(name):
    tuner = find_tuner(name)
    settings = set(tuner.settings)
    base = {info.name for info in dataclasses.fields(peft.PeftConfig)}
    assert not settings & base
    for word in ("modules", "file", "path", "_config", "megatron", "model", "tokens"):
        assert not [x for x in settings if word in x], word


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("LORA", {"corda_config": {"cache_file": "x.pt"}}, ["corda_config", "r,"]),
        ("LORA", {"megatron_core": "os"}, ["megatron_core"]),
        ("LORA", {"base_model_name_or_path": "org/x"}, ["base_model_name_or_path"]),
        ("LORA", {"modules_to_save": ["head"]}, ["modules_to_save", "positions"]),
        ("LORA", {"init_lora_weights": "corda"}, ["init_lora_weights", "'corda'"]),
        ("LORA", {"rank_pattern": {"q": "x"}}, ["rank_pattern", "number"]),
        ("LORA", {"r": [1]}, ["r [1]", "number"]),
        ("LORA", {"rank_pattern": 3}, ["rank_pattern"]),
    ],
)
def test_other_settings_are_refused(name, values, words):
    with pytest.raises(ValueError, match=mentions(*words)):
        make_config(find_tuner(name), values, ["blocks.0.attn.proj"])


def test_plain_settings_reach_the_configuration():
    values = {"r": 3, "rank_pattern": {"proj": 2}, "use_rslora": True}
    config = make_config(find_tuner("dora"), values, ["a.proj", "b.proj"])
    assert (config.r, config.use_rslora, config.use_dora) == (3, True, True)
    assert config.rank_pattern == {"proj": 2}
    assert config.target_modules == r"a\.proj|b\.proj"


def test_unusable_tuners_are_never_made():
    reasons = {name: find_tuner(name).unusable_reason() for name in list_tuners()}
    assert {name for name, reason in reasons.items() if "prompts" in reason} == {
        kind.value
        for kind, config in peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING.items()
        if issubclass(config, peft.PromptLearningConfig)
    }
    assert "vpt-deep" in reasons["PROMPT_TUNING"]
    for name in ("XLORA", "SHADOW", "ADALORA", "TRAINABLE_TOKENS", "ADAPTION_PROMPT"):
        assert reasons[name]
