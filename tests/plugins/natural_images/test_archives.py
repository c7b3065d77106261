"""How the archives of photographs are found."""

from rsft.plugins.natural_images.archives import (
    CIFAR_100_ARCHIVE,
    INATURALIST_2018_ARCHIVE,
    PLACES_LT_ARCHIVE,
)


def test_archives_are_recognized_by_one_file_or_folder(tmp_path):
    members = {
        CIFAR_100_ARCHIVE: "cifar-100-python",
        PLACES_LT_ARCHIVE: "Places_LT_train.txt",
        INATURALIST_2018_ARCHIVE: "train_val2018",
    }
    for archive, name in members.items():
        (tmp_path / archive.command / "inner" / name).mkdir(parents=True)
        assert archive.is_in(tmp_path / archive.command)
    for archive in members:
        others = [other for other in members if other != archive]
        assert not any(other.is_in(tmp_path / archive.command) for other in others)
