"""Public names, and fields that recipes read."""

import subprocess
import sys
from dataclasses import fields
from typing import get_type_hints

import pytest

import rsft.peft
from rsft.peft import METHODS


def test_every_public_name_can_be_imported():
    assert set(rsft.peft.__all__) <= set(dir(rsft.peft))
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
