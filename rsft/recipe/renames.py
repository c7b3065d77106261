"""Recipe keys and values whose name has changed: their old names are read for one more version."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from rsft.recipe.text import Document, to_yaml

if TYPE_CHECKING:
    from rsft.recipe.schema import Recipe

RENAMED_KEYS: dict[str, str] = {
    "meta.init": "meta.init_scale",
    "meta.every": "meta.outer_every",
    "meta.round": "meta.resplit_every",
    "head.scale": "head.logit_scale",
    "loss.defer": "loss.drw_start",
    "train.accumulate": "train.accumulate_grad_batches",
    "train.clip_norm": "train.max_grad_norm",
    "train.runs": "train.ensemble_size",
}
"""New name by old name."""

RENAMED_VALUES: dict[str, dict[Any, Any]] = {"train.precision": {"32": "fp32", 32: "fp32"}}
"""Of keys (by their new name) whose values have new names: new value by old value."""

_log = logging.getLogger(__name__)


def current_key(key: str) -> str:
    """Return the present name of a key.

    Args:
        key: dotted name, old or new.
    """
    return RENAMED_KEYS.get(key, key)


def current_value(key: str, value: Any) -> Any:
    """Return the present name of a value.

    Args:
        key: the present dotted name of its key.
        value: a value of the key, or a list or mapping of such values, as sweeps have them.

    Returns:
        The value, list or mapping with every old value replaced.
    """
    names = RENAMED_VALUES.get(key)
    if names is None:
        return value
    if isinstance(value, list):
        return [current_value(key, item) for item in value]
    if isinstance(value, dict):
        return {name: current_value(key, item) for name, item in value.items()}
    return names.get(value, value) if type(value) in (str, int) else value


def rename_keys(values: Mapping[str, Any], prefix: str = "", *, source: str | None = None) -> dict[str, Any]:
    """Replace old names of keys and values.

    An old key is left as it is where the mapping has its new name too: `duplicate_keys` returns these.

    Args:
        values: values by key.
        prefix: what a key needs in front to be a dotted key of a recipe, such as "train.".
        source: where the mapping was written, for the warnings; None does not warn.

    Returns:
        A new mapping with the present names, in the same order.
    """
    renamed = {}
    for key, value in values.items():
        old = f"{prefix}{key}"
        new = current_key(old)
        leaf = key if new.removeprefix(prefix) in values else new.removeprefix(prefix)
        renamed[leaf] = current_value(new, value)
        if source is not None and leaf != key:
            _warn(source, old, new)
        if source is not None and renamed[leaf] != value:
            _warn(source, f"{new}: {to_yaml(value)}", to_yaml(renamed[leaf]))
    return renamed


def duplicate_keys(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Find the old keys of a mapping that has their new names too.

    Args:
        values: values by key.
        prefix: what a key needs in front to be a dotted key of a recipe.

    Returns:
        New dotted key by old dotted key.
    """
    pairs = {old: current_key(old) for old in (f"{prefix}{key}" for key in values)}
    return {old: new for old, new in pairs.items() if new != old and new.removeprefix(prefix) in values}


def rename_document(document: Document, *, warn: bool = True) -> None:
    """Give the keys and values of a recipe file their present names.

    A file that has both names of a key has a fault.

    Args:
        document: the file; its values, lines and faults change.
        warn: log one line for each old name.
    """
    for section, values in document.values.items():
        if isinstance(values, dict):
            document.values[section] = rename_in_place(document, values, f"{section}.", f"{section}.", warn=warn)


def rename_in_place(
    document: Document, values: Mapping[str, Any], prefix: str, line_prefix: str, *, warn: bool = True
) -> dict[str, Any]:
    """Replace old names in one mapping of a file, and update the lines and faults of the document.

    Args:
        document: the file that the mapping was read from.
        values: values by key.
        prefix: what a key needs in front to be a dotted key of a recipe.
        line_prefix: what a key needs in front to be a key of `document.lines`.
        warn: log one line for each old name.

    Returns:
        A new mapping with the present names, in the same order.
    """
    duplicates = duplicate_keys(values, prefix)
    for old, new in duplicates.items():
        key = old.removeprefix(prefix)
        line = document.lines.get(f"{line_prefix}{key}", 0)
        document.add_fault(line, old, to_yaml(values[key]), f"nothing: {new} is its new name and is given too")
    singles = {key: value for key, value in values.items() if f"{prefix}{key}" not in duplicates}
    for key in singles:
        new = current_key(f"{prefix}{key}").removeprefix(prefix)
        if new != key and f"{line_prefix}{key}" in document.lines:
            document.lines[f"{line_prefix}{new}"] = document.lines.pop(f"{line_prefix}{key}")
    return rename_keys(singles, prefix, source=document.file if warn else None)


@cache
def _warn(source: str, old: str, new: str) -> None:
    """Log an old name, once for each source."""
    _log.warning("%s: %s is now %s; the next version no longer reads the old name", source, old, new)


_FIRST_DEFAULTS: dict[str, dict[str, Any]] = {
    "peft": {
        "rank": 4,
        "dim": 4,
        "positions": "qkvo12",
        "blocks": "all",
        "scale": 1.0,
        "adapter_scale": 1.0,
        "prompts": 10,
        "dropout": 0.0,
    },
    "loss": {
        "tau": 1.0,
        "gamma": 2.0,
        "margin": 0.5,
        "margin_scale": 25.0,
        "defer": None,
        "beta": 0.9999,
        "weight": 0.1,
        "penalty": 0.1,
    },
}
"""Keys of all components in version 0.1, which every recipe had."""

_LATER_KEYS: dict[str, Any] = {
    "backbone.blocks": None,
    "head.earlier_blocks": [],
    "meta.scale_invariant_steps": False,
    "peft.alpha": None,
    "peft.init": "width",
    "train.compile": False,
    "train.head_lr": None,
    "train.last_blocks": None,
    "train.optimizer": "sgd",
    "train.repeat_added": 1,
    "train.start_bundle": None,
}
"""Keys that came after version 0.1, each with the default that stands for the behavior before."""


def content_in_first_format(recipe: Recipe) -> dict[str, Any]:
    """Return the content of a recipe as version 0.1 had it, for hashes that must stay the same.

    Args:
        recipe: its name and trackers do not count, as they do not change the numbers of a run.

    Returns:
        Values by section and key, under the names of version 0.1.
    """
    old_names = {new: old for old, new in RENAMED_KEYS.items()}
    content: dict[str, Any] = recipe.model_dump(exclude={"name", "track"})
    for section, values in content.items():
        if not isinstance(values, dict):
            continue
        settings = dict(_FIRST_DEFAULTS.get(section, {}))
        for key, value in values.items():
            new = f"{section}.{key}"
            if new in _LATER_KEYS and value == _LATER_KEYS[new]:
                continue
            old_values = {current: old for old, current in RENAMED_VALUES.get(new, {}).items() if isinstance(old, str)}
            settings[old_names.get(new, new).partition(".")[2]] = old_values.get(value, value) if old_values else value
        content[section] = settings
    return content
