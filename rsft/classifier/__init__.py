"""Frozen backbone + PEFT + head as one module, built from a recipe or from a bundle, and what it demands of a chip."""

from rsft.classifier.average import Average, Ensemble, with_views
from rsft.classifier.build import build_classifier, choose_device, load_adapted, load_classifier, load_encoder
from rsft.classifier.contract import contract_of
from rsft.classifier.module import Classifier, CosineHead, pooled_features

__all__ = [
    "Average",
    "Classifier",
    "CosineHead",
    "Ensemble",
    "build_classifier",
    "choose_device",
    "contract_of",
    "load_adapted",
    "load_classifier",
    "load_encoder",
    "pooled_features",
    "with_views",
]
