"""Find the sites of a modulator. Building the network takes seconds, so the names of the tensors are read first."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rsft.backbones.catalog.listing import is_listed
from rsft.peft.sites import POSITIONS, Site

if TYPE_CHECKING:
    from rsft.models.bundle.bundle import Bundle

_SITE = re.compile(rf"blocks\.(\d+)\.({'|'.join(POSITIONS)})\.")


def find_sites(bundle: Bundle) -> tuple[Site, ...]:
    """Return the sites of a modulator.

    Names of tensors begin with their site. The network is built on the meta device if this does not name as many sites
    as gamma has values, because sites share tensors or were pruned, or if the backbone is not a listed one.

    Args:
        bundle: an open bundle.

    Returns:
        The sites in the order of gamma; empty without a modulator.

    Raises:
        RequestError: this version of rsft does not know the backbone, or the backbone lacks a site.
    """
    tensors = bundle.members[0]
    matches = filter(None, map(_SITE.match, tensors))
    sites = {Site(int(match[1]), match[2]) for match in matches}
    if is_listed(bundle.recipe.backbone.name) and len(sites) == len(tensors.get("gamma", ())):
        return tuple(sorted(sites, key=lambda site: (site.block, POSITIONS.index(site.position))))
    from rsft.models.inspection.meta_model import build_meta_model

    return build_meta_model(bundle).sites
