"""The readers of the real data sets read the simulated trees."""

import hashlib
from collections import Counter

import numpy as np
import pytest

from rsft.data.datasets.fusar_ship import FUSARShip
from rsft.data.datasets.gaofen_chips import crop_srsdd_ship
from rsft.data.datasets.srsdd import SRSDD
from rsft.data.imagery.reader import read_chip
from rsft.plugins.demo.archives import write_fusar_tree, write_srsdd_tree

COUNTS = {"Cargo": 5, "Tanker": 2, "Fishing": 1}


def digest(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@pytest.fixture(scope="module")
def fusar(tmp_path_factory):
    root = tmp_path_factory.mktemp("raw") / "FUSAR-Ship"
    write_fusar_tree(root, COUNTS, size=64, jobs=1)
    return root


@pytest.fixture(scope="module")
def srsdd(tmp_path_factory):
    root = tmp_path_factory.mktemp("raw") / "SRSDD"
    write_srsdd_tree(root, 2, jobs=1)
    return root


def test_fusar_reader_finds_every_chip_with_its_row(fusar):
    source = FUSARShip(fusar)
    assert Counter(chip.category for chip in source.chips) == COUNTS
    assert not source.skipped and source.rejected == []
    for chip in source.chips:
        assert (
            chip.flags == ()
            and chip.mmsi is not None
            and chip.mmsi.startswith("9")
            and len(chip.mmsi) == 9
        )
        assert (
            15 <= chip.length_m <= 400
            and 20 < chip.incidence_deg < 50
            and chip.polarization == "HH"
        )
        assert chip.path.stem.startswith(
            f"Ship_C{FUSARShip.classes.index(chip.category) + 1:02}S"
        )
    assert len({chip.mmsi for chip in source.chips}) == 8
    header, row = (fusar / "meta.csv").read_text().splitlines()[:2]
    assert (
        header
        == "id,mmsi,length,width,polarMode,centerLookAngle,heightspace,widthspace,path"
    )
    assert row.endswith("Cargo\\BulkCarrier")


def test_fusar_files_have_8_or_16_bits(tmp_path):
    write_fusar_tree(tmp_path / "raw", {"Fishing": 12}, size=32, jobs=1)
    dtypes = {
        read_chip(chip.path).dtype.name for chip in FUSARShip(tmp_path / "raw").chips
    }
    assert dtypes == {"uint8", "uint16"}


@pytest.mark.slow
def test_tree_depends_on_the_seed_but_not_on_the_number_of_processes(fusar, tmp_path):
    write_fusar_tree(tmp_path / "again", COUNTS, size=64, jobs=2)
    assert digest(tmp_path / "again") == digest(fusar)
    write_fusar_tree(tmp_path / "other", {"Tanker": 2}, size=64, seed=1, jobs=1)
    shared = digest(tmp_path / "other").keys() & digest(fusar).keys() - {"meta.csv"}
    assert shared and all(
        digest(tmp_path / "other")[name] != digest(fusar)[name] for name in shared
    )


@pytest.mark.slow
def test_srsdd_reader_finds_bright_ships_in_the_boxes(srsdd):
    source = SRSDD(srsdd, split="all")
    assert len(source) == 2 and source.rejected == [] and source.ships
    for ship in source.ships:
        chip = crop_srsdd_ship(ship)
        assert chip.shape[0] % 64 == 0 and chip.dtype == np.uint8
        assert chip.max() > 4 * np.median(read_chip(ship.image))
    assert (srsdd / "train/labels/0.txt").read_text().startswith("imagesource:")
