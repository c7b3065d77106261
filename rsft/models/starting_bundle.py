"""A bundle of a classifier that others have trained and published.

It classifies without a label, and a run can start at it (`rsft finetune --from`).
"""

from pathlib import Path

import torch

from rsft.backbones.card import Card, PublishedClassifier, find_weights
from rsft.backbones.checkpoint_files import read_checkpoint
from rsft.data.imagery.contract import Contract
from rsft.errors import RequestError, WeightsError
from rsft.models.bundle.bundle import Bundle, source_license
from rsft.models.loading import build_classifier, load_encoder
from rsft.recipe.schema import Recipe


def find_classifier(card: Card) -> PublishedClassifier:
    """Return the classifier in the weights of an encoder, which need not be present.

    Raises:
        RequestError: the card has no classifier.
    """
    if not card.classifier:
        raise RequestError(
            f"the weights of {card.name} contain no classifier that rsft knows",
            "--bundle",
            "train one on labeled chips: rsft finetune",
        )
    return card.classifier


def write_starting_bundle(card: Card, folder: Path) -> Bundle:
    """Write a bundle that gives the logits of a published classifier.

    Its PEFT modules are those of LoRA at the start of a training, which change nothing.
    It has no calibration, because that needs labeled chips.

    Args:
        card: an encoder whose weights are present.
        folder: folder of the bundle, which is replaced if it exists.

    Returns:
        The bundle.

    Raises:
        RequestError: the card has no classifier.
        WeightsError: the weights are missing, or not those of the card.
    """
    published = find_classifier(card)
    recipe = Recipe.model_validate(
        {
            "name": card.name,
            "data": {
                "root": "unpublished",
                "size": card.size,
                "bands": list(card.bands),
                "augment": "sar",
            },
            "backbone": {"name": card.name, "pool": "avg"},
            "peft": {"method": "lora", "rank": 4, "positions": "all"},
            "head": {"kind": "linear"},
            "train": {"epochs": 20, "optimizer": "adamw", "lr": 0.006},
        }
    )
    path = find_weights(card)
    encoder = load_encoder(recipe, card.bands)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        classifier = build_classifier(encoder, len(published.classes), recipe)
    head = published.head(read_checkpoint(path))
    try:
        classifier.head.load_state_dict(head)
    except RuntimeError as error:
        raise WeightsError(
            f"the classifier of {card.name} is not in the file: {error}",
            path,
            "move the file away, and download it again",
        ) from error
    bundle = Bundle(
        recipe=recipe,
        classes=published.classes,
        groups={},
        train_counts=(0,) * len(published.classes),
        contract=Contract(
            units={card.unit: (published.stretch,) * len(card.bands)},
            bands=card.bands,
            planes=card.bands,
            crop=None,
            size=card.size,
            mean=card.mean,
            std=card.std,
            spacing_m=published.spacing_m,
            side=card.size,
        ),
        backbone_sha256=encoder.sha256,
        tensors=classifier.learned_state(),
        licenses=(source_license("backbone", card.name, encoder.license),),
    )
    bundle.save(folder)
    return bundle
