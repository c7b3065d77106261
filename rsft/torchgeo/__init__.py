"""PEFT as a classification task of TorchGeo, and a bundle from its checkpoint."""

from rsft.data.loading.datamodule import ChipStoreDataModule
from rsft.torchgeo.bundle import bundle_from_checkpoint
from rsft.torchgeo.task import PEFTClassificationTask

__all__ = ["ChipStoreDataModule", "PEFTClassificationTask", "bundle_from_checkpoint"]
