"""Composite methods, and positions by letter or name."""

import pytest

from rsft.peft import AdaptFormer, CompositeMethod, LoRA, Site, VPTDeep, attach
from rsft.peft.settings import resolve_scales, validate_ranks
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


SITES = (Site(0, "q"), Site(1, "q"))


def test_scales_of_sites():
    ranks = {SITES[0]: 4, SITES[1]: 8}
    assert resolve_scales("1/r", ranks) == {SITES[0]: 0.25, SITES[1]: 0.125}
    assert resolve_scales(2, ranks) == {SITES[0]: 2.0, SITES[1]: 2.0}
    assert resolve_scales(2, ranks, alpha=16) == {SITES[0]: 4.0, SITES[1]: 2.0}
    by_pattern = resolve_scales({"blocks.0.*": "learnable", "*": 3}, ranks)
    assert by_pattern == {SITES[0]: None, SITES[1]: 3.0}
    with pytest.raises(ValueError, match="scale 'r'"):
        resolve_scales("r", ranks)


def test_ranks_have_limits():
    assert validate_ranks({"blocks.0.*": 0, "*": 1}, SITES) == {SITES[1]: 1}
    for rank in (0, -1, {"blocks.0.*": -1, "*": 2}):
        with pytest.raises(ValueError, match="use 1 or more"):
            validate_ranks(rank, SITES)
