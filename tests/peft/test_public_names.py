"""The public names of rsft.peft: imported at first use, declared for recipes."""

import subprocess
import sys
from dataclasses import fields
from typing import get_type_hints

import pytest
import torch

import rsft.peft
from rsft.peft import METHODS, AdaptFormer, CompositeMethod, LoRA, VPTDeep, attach
from tests.helpers.messages import mentions
from tests.helpers.peft_models import rich_vit


def test_every_public_name_can_be_imported():
    assert set(rsft.peft.__all__) <= set(dir(rsft.peft))
    assert all(getattr(rsft.peft, name) is not None for name in rsft.peft.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Adapted'"):
        _ = rsft.peft.Adapted


def test_methods_do_not_import_torch():
    code = (
        "import sys; from rsft.peft import METHODS; import rsft.peft.methods.scaled, rsft.peft.sites; METHODS['full']"
    )
    subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules"], check=True)


@pytest.mark.parametrize("name", list(METHODS))
def test_fields_are_declared_for_recipes(name):
    method = METHODS[name]
    hints = get_type_hints(method)
    assert method.title and all(field.name in hints for field in fields(method))
    for field in fields(method):
        assert field.metadata["description"], field.name
        if isinstance(field.default, int | float):
            assert field.default >= field.metadata.get("minimum", field.default)


def test_a_composite_is_the_identity_if_all_members_are():
    assert CompositeMethod((LoRA(), AdaptFormer())).is_identity_at_init
    assert not CompositeMethod((LoRA(), VPTDeep())).is_identity_at_init


def test_positions_are_letters_or_names():
    by_letters = attach(rich_vit(), LoRA(positions="v2")).sites
    assert attach(rich_vit(), LoRA(positions=["mlp2", "v"])).sites == by_letters
    with pytest.raises(ValueError, match=mentions("q, k, v, out, mlp1, mlp2")):
        attach(rich_vit(), LoRA(positions=["mlp"]))


def test_class_token_features_are_those_of_the_whole_network():
    vit, images = rich_vit(), torch.randn(2, 3, 32, 32)
    expected = vit.forward_features(images)[:, 0]
    torch.testing.assert_close(rsft.peft.class_token_features(vit, images), expected, atol=1e-5, rtol=0)
