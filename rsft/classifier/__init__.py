"""Frozen backbone + PEFT + head as one module, built from a recipe or from a bundle, and what it demands of a chip."""

from rsft.classifier.average import Answering, Average, Ensemble, averaged, seen_contract, with_views
from rsft.classifier.build import (
    build_classifier,
    choose_device,
    load_adapted,
    load_classifier,
    load_encoder,
    load_merged,
)
from rsft.classifier.contract import contract_of
from rsft.classifier.module import Answer, Classifier, CosineHead, pooled_features
from rsft.classifier.shared import Shared, load_shared

__all__ = [
    "Answer",
    "Answering",
    "Average",
    "Classifier",
    "CosineHead",
    "Ensemble",
    "Shared",
    "averaged",
    "build_classifier",
    "choose_device",
    "contract_of",
    "load_adapted",
    "load_classifier",
    "load_encoder",
    "load_merged",
    "load_shared",
    "pooled_features",
    "seen_contract",
    "with_views",
]
