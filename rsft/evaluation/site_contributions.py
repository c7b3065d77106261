"""Measure how much the PEFT module at each site adds to the frozen layer's output."""

from collections.abc import Iterable

import torch
from torch import Tensor

from rsft.models.classifier import Classifier
from rsft.models.devices import copy_to_device
from rsft.peft import Site, observe_additions

CONTRIBUTION_CHIPS = 256
"""Number of validation chips for the contributions of the sites. More chips hardly
change the means."""


@torch.inference_mode()
def measure_contributions(
    classifier: Classifier, batches: Iterable[tuple[Tensor, Tensor]]
) -> dict[Site, float]:
    """Measure m_p ||f_p(x)|| / ||W_p x|| at every site of an unmerged classifier.

    Norms are over all tokens and features of a chip. At a linear layer, the frozen
    output is W_p x without bias; at a bottleneck, it is the output of the MLP. Methods
    without modules at sites (BitFit, prompts, SSF) have no contributions.

    Args:
        classifier: a classifier whose PEFT modules are not merged.
        batches: inputs (B, P, H, W), and labels, which are ignored.

    Returns:
        Mean ratio over all chips by site, in the order of the forward pass.
    """
    ratios: dict[Site, list[Tensor]] = {}

    def record(site: Site, added: Tensor, frozen: Tensor) -> None:
        ratio = added.flatten(1).norm(dim=1) / frozen.flatten(1).norm(dim=1)
        ratios.setdefault(site, []).append(ratio.float().cpu())

    device = next(classifier.parameters()).device
    with observe_additions(classifier.adapted, record):
        for inputs, _ in batches:
            classifier.features(copy_to_device(inputs, device))
    return {site: float(torch.cat(values).mean()) for site, values in ratios.items()}
