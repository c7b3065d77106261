"""Source of one new PEFT method, loss, engine and data set, as a contributor to rsft would write them."""

from __future__ import annotations

METHOD = '''\
"""Toy tuning: a bounded shift of the outputs of the MLPs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from rsft.peft.methods import registry as keys
from rsft.peft.methods.registry import register

if TYPE_CHECKING:
    from torch import nn

    from rsft.peft.modules.toy import BoundedShift


@register
@dataclass(frozen=True)
class ToyTuning:
    """y + bound * tanh(theta) behind the MLPs, theta zero at first.

    Attributes:
        blocks: a selection of blocks.
        bound: largest shift of a feature.
    """

    name: ClassVar[str] = "toy"
    title: ClassVar[str] = "Toy tuning"
    is_identity_at_init: ClassVar[bool] = True

    blocks: str | Sequence[int] = field(default="all", metadata=keys.BLOCKS)
    bound: float = field(default=1.0, metadata={"description": "largest shift of a feature", "exclusive_minimum": 0})

    def build_modules(self, vit: nn.Module) -> list[BoundedShift]:
        """Build one shift for every selected block.

        Args:
            vit: a timm vision transformer.

        Returns:
            One module for all blocks.
        """
        from rsft.peft.modules.toy import BoundedShift

        return [BoundedShift(vit, self.blocks, self.bound)]
'''

MODULE = '''\
"""A bounded shift of the outputs of the MLPs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rsft.peft.modules.adapter_module import AdapterModule, mangle_name, trainable_kwargs
from rsft.peft.modules.adapter_module import transformer_blocks
from rsft.peft.sites import select_blocks


class BoundedShift(AdapterModule):
    """y + bound * tanh(theta) behind the last layer of the MLPs.

    Args:
        vit: a timm vision transformer.
        blocks: a selection of blocks.
        bound: largest shift of a feature.
    """

    merge_last = True

    def __init__(self, vit: nn.Module, blocks: str | Sequence[int], bound: float) -> None:
        super().__init__()
        self._bound, self._layers = bound, dict[str, Any]()
        for block in select_blocks(blocks, len(transformer_blocks(vit))):
            name = f"blocks.{block}.mlp.fc2"
            layer: Any = vit.get_submodule(name)
            self._layers[name] = layer
            theta = torch.zeros(len(layer.weight), **trainable_kwargs(layer.weight))
            self.register_parameter(mangle_name(name), nn.Parameter(theta))

    def inject(self) -> None:
        """Hook the layers."""
        for name, layer in self._layers.items():
            self.add_undo(name, layer.register_forward_hook(partial(self._add_shift, name)).remove)

    @torch.no_grad()
    def merge(self) -> None:
        """Add the shifts to the biases."""
        for name, layer in self._layers.items():
            layer.bias.add_(self._shift(name))
        self.remove()

    def _add_shift(self, name: str, layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + self._shift(name).to(output.dtype)

    def _shift(self, name: str) -> Tensor:
        return self._bound * self.get_parameter(mangle_name(name)).tanh()
'''

LOSS = '''

@LOSSES.register
@dataclass(frozen=True)
class ToyLoss:
    """Cross entropy with smoothed labels."""

    name: ClassVar[str] = "toy"
    title: ClassVar[str] = "smoothed cross entropy"

    smoothing: float = field(
        default=0.1, metadata={"description": "share of smoothing", "minimum": 0, "exclusive_maximum": 1}
    )

    def make(self, class_counts: Tensor, drawn_counts: Tensor) -> LossFunction:
        """Make the loss function.

        Args:
            class_counts: training chips of each class (C,), which have no effect.
            drawn_counts: chips of each class in the draws of an epoch (C,), which have no effect.

        Returns:
            A function of logits (B, C) and labels (B,).
        """
        from torch.nn import functional as F

        return lambda logits, labels: F.cross_entropy(logits, labels, label_smoothing=self.smoothing)
'''

ENGINE = '''\
"""The engine and format toy: the traced graph, run by PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rsft.inference.engines.base import ENGINES, EXACT, FORMATS, Tolerance
from rsft.inference.engines.graph import GraphEngine
from rsft.inference.engines.graph import GraphModel, as_inference_fn

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from rsft.data.imagery.contract import Contract


@FORMATS.register
@ENGINES.register
class ToyEngine(GraphEngine):
    """A traced graph in PyTorch."""

    name = "toy"
    title = "Toy Runtime"
    extra = "toy"
    packages = ("safetensors",)
    file_name = "toy.pt2"
    precisions: ClassVar[Mapping[str, Tolerance]] = {"fp32": EXACT}

    def write_graph(self, program: ExportedProgram, folder: Path, metadata: Mapping[str, Any]) -> None:
        import torch

        torch.export.save(program, folder / self.file_name)

    def open_graph(self, path: Path, precision: str) -> GraphModel:
        import torch

        return GraphModel(as_inference_fn(torch.export.load(path).module()))
'''

DATASET = '''\
"""The toy data set: image files called <split>_<class>_<number>.png."""

from __future__ import annotations

from pathlib import Path

import torch
from torchgeo.datasets import DatasetNotFoundError

from rsft.data.datasets._label_files import LabeledFile
from rsft.data.datasets.images import LabeledImages, Sample, Transforms, to_image_tensor
from rsft.data.imagery.reader import read_chip


class ToyShips(LabeledImages):
    """The toy data set.

    Attributes:
        files: sorted by path.
    """

    def __init__(self, root: Path, split: str = "train", transforms: Transforms | None = None) -> None:
        """Find the images.

        Args:
            root: folder of the images.
            split: train or val; "all" for both.
            transforms: applied to each sample.

        Raises:
            DatasetNotFoundError: the folder contains no image.
        """
        self.root, self.split, self.transforms, self.files = root, split, transforms, list[LabeledFile]()
        for path in sorted(root.glob("*_*_*.png")):
            name, label, _ = path.stem.split("_")
            if split in (name, "all"):
                self.files.append(LabeledFile(path, label, name))
        if not self.files:
            raise DatasetNotFoundError(self)
        self.classes = sorted({file.label for file in self.files})

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.files)

    def load_sample(self, index: int) -> Sample:
        """Return image (B, H, W) float32, and label."""
        file = self.files[index]
        label = torch.tensor(self.classes.index(file.label))
        return {"image": to_image_tensor(read_chip(file.path)), "label": label}
'''

PREPARE = '''\
"""Build a chip store of the toy data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rsft.data.prepare.registry import data_set, format_prepare_command

if TYPE_CHECKING:
    from rsft.data.chips.store import ChipStore
    from rsft.types import Progress


@data_set("toy")
def prepare_toy(
    source: Path, root: Path, overwrite: bool = False, progress: Progress | None = None
) -> ChipStore:
    """Build a chip store of the toy data set.

    Args:
        source: Folder of the images.

    Raises:
        RequestError: `source` has no image, or `root` is not empty.
    """
    from rsft.data.chips.builder import build_store, check_root_is_free
    from rsft.data.chips.record import ChipRecord, StoreDescription
    from rsft.data.datasets.common import translate_dataset_errors
    from rsft.data.datasets.toy import ToyShips

    check_root_is_free(root, overwrite)
    with translate_dataset_errors("the toy data set", source, "name the folder that contains the images"):
        files = ToyShips(source, "all")
    records = [ChipRecord(file.path.stem, file.split, file.label, file.path) for file in files.files]
    description = StoreDescription("toy", files.classes, format_prepare_command("toy", source, root=root))
    return build_store(root, records, description, overwrite=overwrite, progress=progress)
'''

DATASET_TEST = '''\
"""Chip store of the toy data set."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from rsft.data.datasets.toy import ToyShips
from rsft.data.prepare.toy import prepare_toy
from rsft.errors import RequestError


def test_toy_images_become_chips(tmp_path: Path) -> None:
    for name in ("train_tug_1", "val_tug_2"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.arange(72, dtype=np.uint8).reshape(8, 9))
    store = prepare_toy(tmp_path, tmp_path / "out")
    assert store.table[["split", "class"]].values.tolist() == [["train", "tug"], ["val", "tug"]]
    assert ToyShips(tmp_path)[0]["image"].shape == (1, 8, 9)
    with pytest.raises(RequestError, match="does not contain the toy data set"):
        prepare_toy(tmp_path / "out", tmp_path / "other")
'''
