"""Time store builds and chip loading against plain implementations; print medians and ratios.

python -m tools.benchmarks.data [--chips 1000] [--repeats 3]

All data are simulated. Nothing else should run on the machine.
tools/benchmarks/crops.py, which times DOTA crops, runs first. Set TMPDIR to a folder in
memory if the disk is slow or busy. With --cpu, times are those of the processor, also
of child processes, for a machine that is not free.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from rsft.data.chips.builder import build_store
from rsft.data.chips.chip_content import encode_chip
from rsft.data.chips.manifest import SCHEMA
from rsft.data.chips.record import ChipRecord, StoreDescription
from rsft.data.chips.sidecars import (
    MAX_SHEET_CHIPS,
    render_class_figure,
    render_contact_sheet,
)
from rsft.data.datasets.fusar_ship import FUSARShip
from rsft.data.datasets.gaofen_chips import crop_srsdd_ship
from rsft.data.datasets.srsdd import SRSDD
from rsft.data.imagery.reader import read_chip
from rsft.plugins.demo.archives import write_fusar_tree, write_srsdd_tree
from tools.benchmarks.loading import (
    Times,
    add_row,
    bench_loading,
    seconds,
    write_images,
)
from tools.errors import explained_errors

CLASSES = ("cargo", "fishing", "tanker", "dredger")
FUSAR_SHARE = 0.75  # approximate share of FUSAR-Ship chips in FUSRS v2


def main(
    chips: Annotated[
        int, typer.Option(help="Number of chips to build and load.")
    ] = 1000,
    repeats: Annotated[
        int, typer.Option(help="Runs per implementation; the table shows the median.")
    ] = 3,
    crops: Annotated[
        bool, typer.Option(help="Run tools/benchmarks/crops.py first.")
    ] = True,
    memory: Annotated[
        bool, typer.Option(help="Measure the peak memory of builds.")
    ] = True,
    cpu: Annotated[
        bool,
        typer.Option("--cpu", help="Measure processor time in place of elapsed time."),
    ] = False,
) -> None:
    """Run every comparison and print the table."""
    if cpu:
        os.environ["RSFT_BENCH_CPU"] = "1"
    if crops:
        subprocess.run([sys.executable, "-m", "tools.benchmarks.crops"], check=True)
    table = Table(
        "what",
        "plain",
        "rsft",
        "ratio",
        title=f"{chips:,} chips, median of {repeats}",
        title_justify="left",
    )
    with tempfile.TemporaryDirectory() as folder:
        write_archives(Path(folder), chips)
        write_images(Path(folder), chips)
        bench_build(Path(folder), chips, repeats, table)
        for workers in (1, 2):
            bench_loading(Path(folder), repeats, table, workers)
        if memory:
            bench_memory(Path(folder), table)
    Console().print(table)


def bench_memory(folder: Path, table: Table) -> None:
    """Add the peak memory of builds of 2,000 and 20,000 chips."""
    command = [sys.executable, "-m", "tools.benchmarks.memory", str(folder / "memory")]
    peaks = [
        float(subprocess.check_output([*command, str(count)]))
        for count in (2_000, 20_000)
    ]
    cells = [f"{peak:.0f}" for peak in peaks]
    table.add_row(
        "peak memory of 2,000 and of 20,000 chips, MB",
        *cells,
        f"{peaks[1] / peaks[0]:.3f}",
    )


def write_archives(folder: Path, chips: int) -> None:
    """Write simulated FUSAR-Ship and SRSDD trees with about `chips` ships."""
    fusar = round(FUSAR_SHARE * chips)
    counts = {"Cargo": fusar // 2, "Fishing": fusar // 4, "Tanker": fusar // 8}
    write_fusar_tree(
        folder / "fusar", counts | {"Dredger": fusar - sum(counts.values())}, size=512
    )
    write_srsdd_tree(folder / "srsdd", (chips - fusar) // 3)


def bench_build(folder: Path, chips: int, repeats: int, table: Table) -> None:
    """Time a FUSRS-like build by a plain loop and by two processes; both must write the same bytes."""
    records = make_records(folder, chips)
    times: Times = {"plain": [], "rsft": []}
    for number in range(repeats):
        plain = folder / f"plain{number}"
        store = folder / f"store{number}"
        times["plain"].append(seconds(partial(plain_build, plain, records)))
        times["rsft"].append(
            seconds(
                partial(
                    build_store,
                    store,
                    iter(records),
                    StoreDescription("bench", CLASSES, "bench"),
                    jobs=2,
                )
            )
        )
        assert contents(plain) == contents(store), "the two builds differ"
    add_row(table, f"build of {len(records):,} chips, s", times)


def make_records(folder: Path, chips: int) -> list[ChipRecord]:
    """Return one record per FUSAR-Ship chip and per SRSDD ship."""
    names = dict(zip(("Cargo", "Fishing", "Tanker", "Dredger"), CLASSES, strict=True))
    kinds = {
        "Cell-Container": "cargo",
        "Container": "cargo",
        "Fishing": "fishing",
        "ore-oil": "tanker",
    }
    records = [
        ChipRecord(chip.path.stem, "train", names[chip.category], chip.path)
        for chip in FUSARShip(folder / "fusar").chips
    ]
    for ship in SRSDD(folder / "srsdd", split="all").ships:
        label = kinds.get(ship.category, "dredger")
        records.append(
            ChipRecord(
                ship.name,
                "train",
                label,
                ship.label_file,
                partial(crop_srsdd_ship, ship),
                ship.line,
            )
        )
    return records[:chips]


def plain_build(root: Path, records: list[ChipRecord]) -> None:
    """Build a store in a simple loop, without regard to speed, memory or interruption."""
    rows: list[dict[str, Any]] = []
    for record in sorted(records, key=lambda record: (record.label, record.name)):
        if record.read_pixels is None:
            pixels = read_chip(record.source_path)
            data = record.source_path.read_bytes()
            suffix = record.source_path.suffix
        else:
            pixels = record.read_pixels()
            data, suffix = encode_chip(pixels)
        path = root / (record.path_stem + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        row = {
            "name": record.name,
            "path": record.path_stem + suffix,
            "split": record.split,
            "class": record.label,
        }
        row |= {
            "unit": str(pixels.dtype),
            "bands": "gray",
            "flags": "",
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        rows.append(row)
    rows.sort(key=lambda row: str(row["path"]))
    paths_by_class = {
        name: [root / row["path"] for row in rows if row["class"] == name]
        for name in CLASSES
    }
    counts = {"train": {name: len(paths) for name, paths in paths_by_class.items()}}
    group_of = {
        name: "head" if count > 100 else "tail" if count < 20 else "medium"
        for name, count in counts["train"].items()
    }
    table = pa.Table.from_pylist(
        [row | {"group": group_of[row["class"]]} for row in rows], SCHEMA
    )
    pq.write_table(table, root / "manifest.parquet")
    (root / "classes.svg").write_bytes(render_class_figure("bench", counts, group_of))
    (root / "contact").mkdir()
    for name, paths in paths_by_class.items():
        shown = paths[:: -(-len(paths) // MAX_SHEET_CHIPS)]
        (root / "contact" / f"{name}.png").write_bytes(render_contact_sheet(shown))


def contents(root: Path) -> dict[str, str]:
    """Return the hashes of chips, figures and manifest, without the short text files."""
    files = (
        path
        for path in root.rglob("*")
        if path.is_file() and path.suffix not in (".md", ".json", ".csv")
    )
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


if __name__ == "__main__":
    with explained_errors():
        typer.run(main)
