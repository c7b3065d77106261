"""Public names, and fields that recipes read."""

import json
import subprocess
import sys
from dataclasses import fields
from typing import get_type_hints

import pytest

import rsft.peft
from rsft.peft import METHODS
from rsft.peft.methods.registry import (
    CompositeMethod,
    method_from_dict,
    method_to_dict,
)


def test_every_public_name_can_be_imported():
    assert all(getattr(rsft.peft, name) is not None for name in rsft.peft.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Adapted'"):
        _ = rsft.peft.Adapted


def test_methods_do_not_import_torch():
    code = (
        "import sys; from rsft.peft import METHODS; import rsft.peft.methods.builtin,"
        " rsft.peft.sites"
    )
    code += "; METHODS['full']"
    subprocess.run(
        [sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules"], check=True
    )


@pytest.mark.parametrize("name", list(METHODS))
def test_fields_are_declared_for_recipes(name):
    method = METHODS[name]
    hints = get_type_hints(method, include_extras=True)
    assert method.title
    for field in fields(method):
        (setting,) = hints[field.name].__metadata__
        assert setting.help, field.name
        if isinstance(field.default, int | float) and setting.ge is not None:
            assert field.default >= setting.ge


def test_a_method_is_the_same_after_json():
    members = METHODS["lora"](rank=2), METHODS["adapter"]()
    for method in (*members, CompositeMethod(members)):
        text = json.dumps(method_to_dict(method))
        assert method_from_dict(json.loads(text)) == method
    for wrong in ({"name": "no such"}, {"name": "lora", "rnk": 2}):
        with pytest.raises(ValueError, match=r"no such|rnk"):
            method_from_dict(wrong)
