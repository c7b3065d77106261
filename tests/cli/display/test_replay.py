import io

import pytest
from rich.console import Console

from rsft.cli.display.replay import replay_table
from rsft.training.runs.replay_file import ClassReplay, PartReplay


def printed(part):
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(replay_table(part))
    return console.export_text()


def test_rows():
    rows = (
        ClassReplay("Cargo", 40, 0.9, 0.5, 1, 17, 1e-4),
        ClassReplay("Tug", 3, None, 1.0, 3, 0, 0.25),
    )
    lines = printed(PartReplay("validation chips", rows, 0.9, 0.5, 0.01)).splitlines()
    assert lines[0].strip() == "replay check, 43 chips: validation chips; recall in %"
    cells = [line.split() for line in lines]
    assert ["Cargo", "40", "90.0", "50.0", "1", "17", "0.0001"] in cells
    assert ["Tug", "3", "new", "100.0", "3", "0", "0.25"] in cells
    assert ["macro", "43", "90.0", "50.0", "4", "17", "0.01"] in cells


@pytest.mark.parametrize("count", [30, 31])
def test_many_classes(count):
    rows = tuple(
        ClassReplay(f"c{index:02d}", 10, 1.0, 1.0, 0, index, 1.0)
        for index in range(count)
    )
    text = printed(PartReplay("validation chips", rows, 1.0, 1.0, 1.0))
    assert ("c00" in text) == (count == 30) and f"c{count - 1}" in text
    assert ("1 classes with fewer changes are not shown" in text) == (count == 31)
