"""A chip store as a data set and a data module of TorchGeo."""

import warnings
from pathlib import Path

import numpy as np
import torch
from torchgeo.datamodules import NonGeoDataModule

from rsft.data.chips.store import ChipStore
from rsft.data.datasets.images import LabeledImages, Sample, Transforms
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.stretch import CHIP_STANDARD, StretchOption, fit_stretches
from rsft.data.loading.batches import ChipImages
from rsft.errors import RequestError


class ChipStoreDataset(LabeledImages):
    """The chips of one split of a chip store, cropped and resized to one size.

    Args:
        store: the chip store.
        contract: how a chip becomes an image.
        split: "train", "val" or "test".
        transforms: applied to each sample.

    Attributes:
        classes: class names in the order of the labels.
        chips: the images and labels.

    Raises:
        RequestError: the split has no chips.
        DataError: a chip cannot be read, or does not match the contract.
    """

    def __init__(
        self,
        store: ChipStore,
        contract: Contract,
        split: str = "train",
        transforms: Transforms | None = None,
    ) -> None:
        table = store.split(split)
        if table.empty:
            raise RequestError(
                f"the chip store has no {split} chips",
                store.root,
                "build it with shares of the chips, such as --val 0.1 --test 0.1",
            )
        self.classes = store.classes
        self.transforms = transforms
        self.chips = ChipImages(store.root, table, store.classes, contract)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.chips)

    def load_sample(self, index: int) -> Sample:
        """Return one sample.

        Returns:
            image: (B, size, size) float32 in 0-255; label: index into `classes`.
        """
        image = self.chips.images[index].transpose(2, 0, 1).astype(np.float32)
        return {
            "image": torch.from_numpy(image),
            "label": torch.tensor(self.chips.labels[index]),
        }


class ChipStoreDataModule(NonGeoDataModule):
    """A chip store as a LightningDataModule that the tasks of TorchGeo accept.

    Images are stretched to 0-255 as in a recipe of rsft, and then normalized by `mean`
    and `std` on the device. The limits of the stretch are measured on the training
    chips.

    Args:
        root: folder of the chip store.
        batch_size: chips per batch; fewer if the training split has fewer.
        num_workers: number of worker processes.
        size: side of the images in pixels.
        crop: side of the center crop before resizing in pixels; None takes the whole
            chip.
        unit: unit to convert the chips to, for instance "db"; None keeps their units.
        stretch: stretch to 0-255, as the recipe key data.stretch, without
            "chip-standard".
        mean: mean of each band on the scale 0-255, or one number for all bands.
        std: standard deviation of each band on the scale 0-255, or one number for all
            bands.
        transforms: applied to each sample.

    Attributes:
        store: the chip store.

    Raises:
        RequestError: the folder is not a chip store.
        DataError: the store is damaged.

    Example:
        >>> data = ChipStoreDataModule("data/ships", batch_size=32, size=64)
        >>> data.in_channels, data.num_classes
        (1, 3)

        `docs/torchgeo.md` trains a task of TorchGeo with it.
    """

    def __init__(
        self,
        root: str | Path,
        batch_size: int = 64,
        num_workers: int = 0,
        *,
        size: int = 224,
        crop: int | None = None,
        unit: str | None = None,
        stretch: StretchOption = "auto",
        mean: float | tuple[float, ...] = 0.0,
        std: float | tuple[float, ...] = 255.0,
        transforms: Transforms | None = None,
    ) -> None:
        self.mean = torch.tensor(mean)
        self.std = torch.tensor(std)
        super().__init__(ChipStoreDataset, batch_size, num_workers)
        self.store = ChipStore.open(Path(root))
        self.size = size
        self.crop = crop
        self.unit = unit
        self.stretch = stretch
        self.transforms = transforms
        self._contract: Contract | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.store.classes)

    @property
    def in_channels(self) -> int:
        """Number of bands."""
        return len(self.store.bands)

    @property
    def contract(self) -> Contract | None:
        """How a chip becomes the network's input; None before `setup`.

        It has mean and standard deviation.
        """
        moments = {
            name: tuple((getattr(self, name) / 255).expand(self.in_channels).tolist())
            for name in ("mean", "std")
        }
        if not self._contract:
            return None
        return self._contract.model_copy(update=moments)

    def setup(self, stage: str) -> None:
        """Open the splits of a stage: "fit", "validate", "test" or "predict".

        "predict" takes the test split.

        Raises:
            RequestError: the chip store does not have a split of this stage.
            DataError: a chip cannot be read, or its unit cannot be converted.
        """
        if not self._contract:
            self._contract = fit_store_contract(
                self.store, self.size, self.crop, self.unit, self.stretch
            )
            note = self._contract.clipping_note
            if note:
                warnings.warn(note, stacklevel=2)
        splits = {
            "fit": ("train", "val"),
            "validate": ("val",),
            "test": ("test",),
            "predict": ("test",),
        }[stage]
        for split in splits:
            name = "predict" if stage == "predict" else split
            dataset = ChipStoreDataset(
                self.store, self._contract, split, self.transforms
            )
            setattr(self, f"{name}_dataset", dataset)
            # TorchGeo drops the last training batch, which would be the only one
            if split == "train":
                self.train_batch_size = min(self.batch_size, len(dataset))


def fit_store_contract(
    store: ChipStore,
    size: int,
    crop: int | None = None,
    unit: str | None = None,
    stretch: StretchOption = "auto",
) -> Contract:
    """Fit the contract of a chip store that no encoder prescribes: one plane per band.

    Args:
        store: the chip store.
        size: side of the images in pixels.
        crop: side of the center crop before resizing in pixels; None takes the whole
            chip.
        unit: unit to convert the chips to; None keeps their units.
        stretch: stretch to bytes, not "chip-standard"; its limits are measured on the
            training chips if it has none.

    Returns:
        The contract; its mean and standard deviation are 0 and 1.

    Raises:
        RequestError: the limits of `stretch` do not match the bands, or it is
            "chip-standard".
        DataError: a chip cannot be read, or its unit cannot be converted.
    """
    if stretch == CHIP_STANDARD:
        raise RequestError(
            (
                "TorchGeo normalizes the chips of a data module by one mean and"
                " standard deviation, not each by its own"
            ),
            "stretch",
            "use stretch='auto', and normalize each chip in `transforms`",
        )
    bands = store.bands
    units = {name: (name, unit or name) for name in store.units}
    stretches, statistics = fit_stretches(
        stretch, bands, bands, units, lambda name: store.iter_pixels("train", name)
    )
    zeros = (0.0,) * len(bands)
    ones = (1.0,) * len(bands)
    return Contract(
        units=stretches,
        bands=bands,
        planes=bands,
        crop=crop,
        size=size,
        mean=zeros,
        std=ones,
        statistics=statistics,
    )
