"""`rsft prepare fusrs`, as a user types it: what is refused, counted and shown."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.data.datasets.fusar_ship.data import make_names, write_chip, write_fusar
from tests.data.datasets.srsdd.data import write_srsdd
from tests.helpers.clutter import write_clutter

COMMAND = ("prepare", "fusrs", "--root", "out")


@pytest.fixture
def raw(tmp_path):
    """Three chips whose folder contradicts their name, one chip without a row, and
    SRSDD."""
    root = write_fusar(tmp_path / "FUSAR", make_names({"Cargo": 3}))
    (root / "Cargo").rename(root / "Tanker")
    write_chip(root / "Dredger/Sub01/Ship_C03S01N0001.tiff", size=16)
    write_srsdd(tmp_path / "SRSDD", {image: ["Fishing"] for image in range(5)})
    return tmp_path


def test_contradictions_are_refused_with_a_way_on(raw, rsft):
    code, printed = rsft(*COMMAND)
    assert code == 1 and not (raw / "out").exists()
    assert (
        "3 of 3 file names of Cargo contradict their folder" in printed
        and "Add --allow-partial" in printed
    )
    assert "Ship_C01S01N0000.tiff is in the folder of Tanker" in printed


@pytest.mark.slow
def test_flags_and_rows_without_a_chip_are_shown(raw, rsft):
    code, printed = rsft(*COMMAND, "--allow-partial")
    assert code == 0
    readme = (raw / "out/README.md").read_text()
    assert "category-index" in readme and "no-meta" in readme
    assert "skipped: 3  FUSAR-Ship: row of the meta table without a chip" in printed


def test_an_archive_without_a_chip_is_refused_with_its_folder(raw, rsft):
    write_fusar(raw / "more/FUSAR", make_names({"Tug": 2}))
    code, printed = rsft(*COMMAND, "--fusar", raw / "more/FUSAR")
    assert (
        code == 1
        and "FUSAR-Ship gives no chip" in printed
        and str(raw / "more/FUSAR") in printed
    )
    assert "2 x FUSAR-Ship Tug: not among the classes" in printed


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="special files")
def test_a_root_beside_special_files_behind_the_fence():
    with tempfile.TemporaryDirectory() as name:  # the path of a socket is short
        top = Path(name)
        write_clutter(top)
        write_fusar(top / "x/ships", make_names({"Cargo": 30}))
        write_srsdd(
            top / "x/images",
            {image: ["Fishing", "ore-oil", "Dredger"] for image in range(10)},
        )
        command = [
            sys.executable,
            "-m",
            "rsft",
            "prepare",
            "fusrs",
            "--root",
            str(top / "data"),
        ]
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=300,
            cwd=top / "x",
            check=False,
        )
        assert result.returncode == 0, result.stderr
        assert (
            f"FUSAR-Ship: {top}/x/ships\n" in result.stderr
            and f"60 chips in {top}/data" in result.stdout
        )
