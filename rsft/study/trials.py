"""A trial: one run of a study, with a resolved recipe."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from rsft.recipe.schema import Recipe

KeyValues = dict[str, Any]
"""Values that a trial sets, by recipe key; `recipe` is the name of the recipe."""


@dataclass(frozen=True)
class Trial:
    """One run of a study.

    Attributes:
        keys: values that the study sets.
        recipe: the resolved recipe.
    """

    keys: KeyValues
    recipe: Recipe

    @property
    def id(self) -> str:
        """Hash of the values that differ from the defaults.

        A later version with more keys gives the same experiment this id.
        """
        content = json.dumps(changed_values(self.recipe), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]


def changed_values(recipe: Recipe) -> KeyValues:
    """Return the values of a recipe that differ from their defaults, by section.

    Name and trackers are left out, as they do not change the numbers of a run. A
    section without such values is left out, unless it is None by default.
    """
    content: KeyValues = {"seed": recipe.seed} if recipe.seed else {}
    for name, section in recipe.sections():
        if not section or name == "track":
            continue
        values = {}
        for key, value in section:
            default = section.key_infos[key].get_default(call_default_factory=True)
            if value != default:
                values[key] = value
        if values or Recipe.model_fields[name].default is None:
            content[name] = values
    return content
