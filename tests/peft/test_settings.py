"""Composite methods, and positions by letter or name."""

import pytest

from rsft.peft import AdaptFormer, CompositeMethod, LoRA, VPTDeep, attach
from tests.helpers.messages import mentions
from tests.helpers.peft_models import rich_vit


def test_a_composite_is_the_identity_if_all_members_are():
    assert CompositeMethod((LoRA(), AdaptFormer())).is_identity_at_init
    assert not CompositeMethod((LoRA(), VPTDeep())).is_identity_at_init


def test_positions_are_letters_or_names():
    by_letters = attach(rich_vit(), LoRA(positions="v2")).sites
    assert attach(rich_vit(), LoRA(positions=["mlp2", "v"])).sites == by_letters
    with pytest.raises(ValueError, match=mentions("q, k, v, out, mlp1, mlp2")):
        attach(rich_vit(), LoRA(positions=["mlp"]))
