"""The type of a field says what its setting accepts."""

from dataclasses import dataclass
from typing import Annotated

import pytest
from pydantic import ValidationError

from rsft.recipe.components import settings_model
from rsft.utils.settings import Setting


@dataclass(frozen=True)
class Toy:
    """A component with two settings."""

    share: Annotated[float | None, Setting("share of the chips", ge=0, lt=1)] = None
    kind: Annotated[str, Setting("kind", pattern="^(a|b)$", words="a | b")] = "a"
    plain: int = 3


@pytest.mark.parametrize(
    ("values", "is_valid"),
    [
        ({}, True),
        ({"share": 0.5, "kind": "b", "plain": -1}, True),
        ({"share": 1.0}, False),
        ({"share": -0.1}, False),
        ({"kind": "c"}, False),
        ({"plain": 0.5}, False),
    ],
)
def test_values_of_a_setting(values, is_valid):
    model = settings_model(Toy)
    if is_valid:
        settings = {"share": None, "kind": "a", "plain": 3} | values
        assert dict(model.model_validate(values)) == settings
    else:
        with pytest.raises(ValidationError):
            model.model_validate(values)


def test_help_of_a_setting():
    infos = settings_model(Toy).model_fields
    helps = [infos[name].description for name in ("share", "kind", "plain")]
    assert helps == ["share of the chips", "kind", ""]
