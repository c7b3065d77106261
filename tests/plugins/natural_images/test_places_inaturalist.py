"""Places-LT and iNaturalist 2018 as classes of TorchGeo, in miniature."""

import pytest
from torchgeo.datasets import DatasetNotFoundError

from rsft.errors import DataError
from rsft.plugins.natural_images.places_inaturalist import (
    INaturalist2018,
    ListFileDataset,
    PlacesLT,
)
from tests.plugins.natural_images.test_list_files import TINY, TRAIN, VAL, write


class Tiny(ListFileDataset):
    published = TINY


def test_samples_keep_their_values_and_can_be_plotted(tmp_path):
    dataset = Tiny(
        str(write(tmp_path)), transforms=lambda sample: sample | {"seen": True}
    )
    assert len(dataset) == 3 and dataset.table["split"].unique().tolist() == ["train"]
    sample = dataset[1]
    assert (
        sample["image"].shape == (3, 5, 6)
        and sample["image"].max() > 200
        and int(sample["label"]) == 1
    )
    assert (
        sample["seen"]
        and dataset.plot(sample).axes[0].get_title() == "Label: apartment-outdoor"
    )


def test_splits(tmp_path):
    write(tmp_path)
    paths = [row[:-2] for row in (*TRAIN, *VAL)]
    assert [
        Tiny(tmp_path, split).table["path"].tolist() for split in ("val", "all")
    ] == [paths[3:], paths]
    with pytest.raises(AssertionError, match="Split 'test' not supported"):
        Tiny(tmp_path, "test")


def test_missing_files_raise_the_error_of_torchgeo(tmp_path):
    for dataset, split in (
        (PlacesLT, "test"),
        (INaturalist2018, "val"),
        (Tiny, "train"),
    ):
        with pytest.raises(DatasetNotFoundError, match="Dataset not found"):
            dataset(tmp_path / "absent", split)
    write(tmp_path)
    (tmp_path / "val.txt").unlink()
    with pytest.raises(DatasetNotFoundError):
        Tiny(tmp_path, "val")
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="UTF-8"):
        Tiny(tmp_path)
