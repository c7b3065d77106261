"""Events that a run sends to its displays."""

import math

from rsft.training.listeners import StepReport

RUN_METADATA = {
    "trained_parameters": 1000,
    "total_parameters": 2000,
    "train_chips": 40,
    "device": "cpu",
}
ROW = {
    **{
        "epoch": 0,
        "train_loss": 1.5,
        "meta_loss": math.nan,
        "val_loss": 1.25,
        "images_per_s": 30.0,
    },
    **{
        "val_head": 0.5,
        "val_medium": math.nan,
        "val_tail": 0.25,
        "val_macro": 0.4,
        "val_micro": 0.45,
    },
}


STEP = StepReport(
    **{
        "epoch": 0,
        "step": 5,
        "steps": 5,
        "done": 5,
        "total": 15,
        "loss": 1.5,
        "images_per_s": 30.0,
        "data_s": 0.01,
    },
    **{
        "inner_s": 0.2,
        "outer_s": 0.05,
        "memory_mb": 800.0,
        "gpu_mb": math.nan,
        "left_s": 75.0,
    },
)
