from pathlib import Path

import cv2
import numpy as np
import pytest

from rsft.data.prepare.image_folder import prepare_folder
from tools.reproduction.make_pool import main


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(0)
    for name, count in (("a", 12), ("b", 12)):
        (tmp_path / "chips/train" / name).mkdir(parents=True)
        for number in range(count):
            cv2.imwrite(
                str(tmp_path / f"chips/train/{name}/{number}.png"),
                rng.integers(0, 255, (8, 8), np.uint8),
            )
    prepare_folder(tmp_path / "chips", tmp_path / "store", imbalance=4, val=0.25)
    return tmp_path / "chips/train"


def contents(folder):
    return {path.read_bytes() for path in folder.rglob("*.png")}


@pytest.mark.parametrize(
    ("option", "count"), [([], 7), (["--per-label", "1"], 2), (["--uniform", "1"], 1)]
)
def test_a_pool_has_no_chip_of_the_store(source, tmp_path, capsys, option, count):
    main([str(source), str(tmp_path / "store"), str(tmp_path / "pool"), *option])
    pool = contents(tmp_path / "pool")
    assert (
        len(pool) == count
        and pool <= contents(source)
        and not pool & contents(tmp_path / "store")
    )
    assert f"{count} chips" in capsys.readouterr().out


def test_the_seed_decides_and_classes_need_a_folder(source, tmp_path):
    for name in ("one", "two"):
        main(
            [
                str(source),
                str(tmp_path / "store"),
                str(tmp_path / name),
                "--uniform",
                "2",
            ]
        )
    assert [path.read_bytes() for path in sorted(Path(tmp_path / "one").iterdir())] == [
        path.read_bytes() for path in sorted(Path(tmp_path / "two").iterdir())
    ]
    with pytest.raises(ValueError, match="no folder a"):
        main([str(source.parent), str(tmp_path / "store"), str(tmp_path / "three")])


def test_a_share_of_the_pool_is_of_other_classes(source, tmp_path):
    with pytest.raises(ValueError, match="no folder of another class"):
        main(
            [
                str(source),
                str(tmp_path / "store"),
                str(tmp_path / "pool"),
                "--others",
                "0.5",
            ]
        )
    (source / "c").mkdir()
    for number in range(4):
        cv2.imwrite(str(source / f"c/{number}.png"), np.full((8, 8), number, np.uint8))
    store = tmp_path / "store"
    pool = tmp_path / "pool"
    main([str(source), str(store), str(pool), "--uniform", "1", "--others", "0.5"])
    assert (
        len(contents(pool)) == 2 and len(contents(pool) & contents(source / "c")) == 1
    )
    with pytest.raises(ValueError, match="has 4 chips, 9 are needed"):
        main(
            [
                str(source),
                str(store),
                str(tmp_path / "more"),
                "--uniform",
                "1",
                "--others",
                "0.9",
            ]
        )
