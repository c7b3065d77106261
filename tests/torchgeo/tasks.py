"""Small tasks, their data, and their training."""

from pathlib import Path

import torch
from lightning.pytorch import Trainer

from rsft.torchgeo import ChipStoreDataModule, PEFTClassificationTask

SIZE = 160
LORA = {"method": "lora", "rank": 2, "positions": "qv"}
QUIET = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
}
SHORT = {
    "max_epochs": 1,
    "limit_train_batches": 2,
    "limit_val_batches": 1,
    "num_sanity_val_steps": 0,
}


def make_task(weights, **options):
    return PEFTClassificationTask(
        "test_vit", weights, 1, num_classes=3, **{"peft": LORA, "lr": 0.01} | options
    )


def fit(task, datamodule, folder, **options):
    trainer = Trainer(default_root_dir=folder, **QUIET, **SHORT | options)
    trainer.fit(task, datamodule=datamodule)
    return trainer, Path(trainer.checkpoint_callback.best_model_path)


def chips(root, **options):
    return ChipStoreDataModule(root, batch_size=8, size=SIZE, **options)


class Labels(torch.utils.data.Dataset):
    def __init__(self, targets):
        self.targets = targets
