"""Sites of a modulator, from the names of tensors or from the network."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rsft.errors import RequestError
from rsft.models.bundle.bundle import Bundle
from rsft.models.inspection import verify
from rsft.models.inspection.describe import find_sites
from rsft.models.inspection.verify import build_meta_model
from tests.helpers.messages import mentions


def test_names_of_tensors_state_the_sites(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.load(run)
    expected = build_meta_model(bundle).sites
    monkeypatch.setattr(verify, "build_meta_model", None)
    assert find_sites(bundle) == expected and len(expected) == 36


def test_the_network_states_sites_without_tensors(run: Path) -> None:
    bundle = Bundle.load(run)
    pruned = replace(bundle, tensors={k: v for k, v in bundle.tensors.items() if not k.startswith("blocks.0.q.")})
    assert find_sites(pruned) == find_sites(bundle)


def test_an_unknown_backbone_is_refused(run: Path) -> None:
    bundle = Bundle.load(run)
    unknown = bundle.recipe.model_copy(
        update={"backbone": bundle.recipe.backbone.model_copy(update={"name": "vit_unknown"})}
    )
    with pytest.raises(RequestError, match=mentions("no backbone", "'vit_unknown'")):
        find_sites(replace(bundle, recipe=unknown))


def test_without_a_modulator_there_are_no_sites(run: Path) -> None:
    bundle = Bundle.load(run)
    plain = bundle.recipe.model_copy(update={"meta": None})
    assert find_sites(replace(bundle, recipe=plain, tensors={"head.weight": torch.zeros(3, 4)})) == ()
