"""The tuners of the installed package peft, and their configurations."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from rsft.types import JsonObject, Names
from rsft.utils.dependencies import require

ADAPTER = "default"
"""Name of the adapter in the modules of peft."""

_ALIASES = {"DORA": ("LORA", {"use_dora": True})}

_HIDDEN_FIELD = re.compile(r"(layers_|megatron_|.*_(modules|model|path|file|name)$).*")
"""Fields that choose layers, which `positions` and `blocks` do, or that read files or
import modules."""


class Tuner(NamedTuple):
    """One tuner of peft: its classes, and settings that its name implies."""

    name: str
    tuner_class: Any
    config_class: Any
    implied: JsonObject

    @property
    def settings(self) -> Names:
        """The settings that a recipe may give: numbers, words and numbers by layer."""
        base = {info.name for info in dataclasses.fields(_peft().PeftConfig)}
        names = []
        for info in dataclasses.fields(self.config_class):
            is_pattern = info.name.endswith("_pattern")
            is_plain = is_pattern or not re.search("list|dict|Config", str(info.type))
            if is_plain and not _HIDDEN_FIELD.fullmatch(info.name):
                names.append(info.name)
        return tuple(name for name in names if name not in base)

    def unusable_reason(self) -> str:
        """Return why no image network can have the tuner; "" if one may."""
        fields = {info.name for info in dataclasses.fields(self.config_class)}
        if issubclass(self.config_class, _peft().PromptLearningConfig):
            return (
                "it adds prompts to the text of a language model; vpt-shallow and"
                " vpt-deep add prompts to images"
            )
        adapts_layers = getattr(self.tuner_class, "tuner_layer_cls", None) is not None
        if not adapts_layers or "target_modules" not in fields:
            return "it changes a whole language model, not single layers"
        layers = getattr(self.tuner_class, "target_module_mapping", {}).get("llama", ())
        if layers and all("norm" in layer for layer in layers):
            return "it trains norms; use the method layernorm"
        if "token_indices" in fields:
            return "it trains the embeddings of text tokens"
        if "shadow_model" in fields:
            return "it trains a second language model beside the first one"
        if hasattr(self.tuner_class, "update_and_allocate") and "use_asa" not in fields:
            return (
                "it moves ranks between layers by a schedule of its own, which the"
                " training loop does not call"
            )
        return ""


def list_tuners() -> Names:
    """Return the names of all tuners of the installed peft, and DORA."""
    mapping = _peft().mapping.PEFT_TYPE_TO_CONFIG_MAPPING
    return (*(kind.value for kind in mapping), *_ALIASES)


def find_tuner(name: str) -> Tuner:
    """Return a tuner by its name, in any case.

    Raises:
        ValueError: the installed peft has no such tuner.
    """
    peft = _peft()
    kind, implied = _ALIASES.get(name.upper(), (name.upper(), {}))
    config_class = peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING.get(kind)
    if config_class is None:
        raise ValueError(
            f"peft_type {name!r}: peft {peft.__version__} has"
            f" {', '.join(list_tuners())}"
        )
    tuner_class = peft.mapping.PEFT_TYPE_TO_TUNER_MAPPING.get(kind)
    return Tuner(name.upper(), tuner_class, config_class, implied)


def make_config(tuner: Tuner, values: JsonObject, layers: list[str]) -> Any:
    """Return the configuration of a tuner for some layers.

    Values of a stranger neither read files nor make requests: they are numbers and
    words, and no setting takes the name of a file or of a model.

    Args:
        tuner: the tuner.
        values: the settings, without `peft_type`.
        layers: dotted names of the layers to adapt.

    Raises:
        ValueError: the tuner has no such setting, or a value is not plain.
    """
    allowed = tuner.settings
    unknown = sorted(set(values) - set(allowed))
    if unknown:
        raise ValueError(
            f"{tuner.name} has no setting {', '.join(unknown)} that a recipe may give;"
            f" it has {', '.join(allowed) or 'none'}. Layers are chosen by positions"
            " and blocks"
        )
    fields = {info.name for info in dataclasses.fields(tuner.config_class)}
    for key, value in values.items():
        _check_value(tuner, key, value, fields)
    # a list would also match layers whose names end like these
    extra: JsonObject = {"target_modules": "|".join(map(re.escape, layers))}
    if "feedforward_modules" in fields:  # of IA3, which scales their input
        extra["feedforward_modules"] = r".*\.fc2"
    if "progressbar" in fields:
        extra["progressbar"] = False
    return tuner.config_class(**{**extra, **tuner.implied, **values})


def _check_value(tuner: Tuner, key: str, value: Any, fields: set[str]) -> None:
    numbers = (bool, int, float, type(None))
    if key.endswith("_pattern"):
        is_plain = isinstance(value, Mapping) and all(
            isinstance(number, numbers) for number in value.values()
        )
    else:
        is_plain = isinstance(value, (*numbers, str))
    if not is_plain:
        raise ValueError(
            f"{tuner.name}: {key} {value!r}: use a number, a word, true, false or null,"
            " and numbers by layer for a pattern"
        )
    if f"{value}_config" in fields or (key == "use_asa" and value):
        raise ValueError(
            f"{tuner.name}: {key} {value!r} needs batches or steps of peft's own"
            " training, which the training loop does not give"
        )


def _peft() -> Any:
    """Import peft.

    Raises:
        RequestError: it is not installed.
    """
    return require("peft", "")
