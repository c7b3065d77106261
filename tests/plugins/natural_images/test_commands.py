"""`rsft prepare cifar100-lt`, `places-lt` and `inat2018`, as a user types them."""

from dataclasses import replace

import pytest

from rsft.plugins.natural_images import list_files
from tests.plugins.natural_images.cifar_data import write_folders


@pytest.fixture(autouse=True)
def few_classes(monkeypatch):
    for name in ("PLACES_LT", "INATURALIST_2018"):
        monkeypatch.setattr(
            list_files, name, replace(getattr(list_files, name), classes=2)
        )


@pytest.mark.parametrize(
    ("command", "train", "message"),
    [
        ("cifar100-lt", "", "skipped: 1  training image, to reach an imbalance of 2"),
        ("places-lt", "Places_LT_train.txt", "3 rejected"),
        ("inat2018", "iNaturalist18_train.txt", "2 rejected"),
    ],
)
def test_command_builds_a_chip_store(rsft, tmp_path, command, train, message):
    src = write_folders(
        tmp_path / "src", {"train/apple": 2, "train/bee": 2, "test/apple": 1}
    )
    if train:
        rows = [
            f"train/{name}/{index}.png {label}"
            for label, name in enumerate(("apple", "bee"))
            for index in (0, 1)
        ]
        (src / train).write_text("\n".join(rows))
    options = ["--imbalance", "2", "--val", "0"] if command == "cifar100-lt" else []
    code, printed = rsft("prepare", command, src, "--root", "out", *options)
    assert code == 0 and "4 chips" in printed and message in printed
    assert (tmp_path / "out/manifest.parquet").is_file()
