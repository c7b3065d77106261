"""Classify many small scenes on two Ray nodes of this machine, kill one, and count what is lost.

python -m tools.kill_runs.ray_nodes BUNDLE RASTER --grid 80 [--scenes 2000] [--side 96]
[--seed 0]

The scenes are windows of RASTER at random positions, as GeoTIFF. Each node has one core.
When a third of the scenes is in scenes.csv, all processes of the second node get
SIGKILL. Then the command ends, follows again, and must skip every scene. Counted are
rows and outputs per scene, files that are left, and scenes of a sample whose output
differs from that of an undisturbed command without Ray. Linux only; needs rsft[ray].
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import psutil
import rasterio
import typer
from rasterio.transform import from_gcps
from rasterio.windows import Window
from rasterio.windows import transform as window_transform

from rsft.inference.archive import SCENES_FILE
from rsft.inference.scene_table import read_scenes
from tools.errors import explained_errors
from tools.kill_runs.contents import digest_folder

RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_enable_metrics_collection": "0",
    "RAY_raylet_start_wait_time_s": "60",
}
"""A node of a busy machine starts slowly."""

SAMPLE = 100
"""Number of scenes that are compared with an undisturbed command."""


def cut_scenes(raster: Path, folder: Path, count: int, side: int, seed: int) -> None:
    """Write windows of a raster, and lists of all and of a sample of them."""
    rng = random.Random(seed)
    with rasterio.open(raster) as dataset:
        pixels = dataset.read()
        points, crs = dataset.gcps
        transform = from_gcps(points) if points else dataset.transform
        profile = {"crs": crs or dataset.crs, "dtype": pixels.dtype, "driver": "GTiff"}
    paths = []
    for index in range(count):
        row = rng.randrange(pixels.shape[1] - side + 1)
        column = rng.randrange(pixels.shape[2] - side + 1)
        window = Window(column, row, side, side)
        profile["transform"] = window_transform(window, transform)
        path = folder / f"scenes/{index:05}.tif"
        path.parent.mkdir(exist_ok=True)
        size = {"count": len(pixels), "width": side, "height": side}
        with rasterio.open(path, "w", **profile, **size) as dataset:
            dataset.write(pixels[:, row : row + side, column : column + side])
        paths.append(f"{path}\n")
    (folder / "all.txt").write_text("".join(paths))
    (folder / "sample.txt").write_text("".join(rng.sample(paths, min(SAMPLE, count))))


def start_command(
    folder: Path, bundle: Path, names: str, out: str, *options: str
) -> subprocess.Popen[bytes]:
    """Start `rsft predict` for the scenes of a list."""
    inputs = [str(bundle.absolute()), f"@{folder / names}", "-o", str(folder / out)]
    command = [sys.executable, "-m", "rsft", "predict", *inputs, *options]
    log = folder / f"{out}.log"
    with log.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, cwd=folder)


def count_rows(table: Path) -> int:
    """Return the number of scenes in scenes.csv."""
    return table.read_bytes().count(b"\n") - 1 if table.exists() else 0


def kill_node(node: Any) -> int:
    """Kill all processes of a node; return their number."""
    processes = []
    for started in node.all_processes.values():
        for item in started:
            process = psutil.Process(item.process.pid)
            processes += [process, *process.children(recursive=True)]
    for process in processes:
        process.kill()
    return len(processes)


def describe_faults(folder: Path, count: int) -> list[str]:
    """Return what is wrong with the outputs of all scenes; nothing if all is right."""
    expected = {path.stem for path in (folder / "scenes").iterdir()}
    rows = list(read_scenes(folder / "out" / SCENES_FILE))
    outputs = sorted(path for path in (folder / "out").rglob("*") if path.is_file())
    tables = Counter(path.stem for path in outputs if path.suffix == ".gpkg")
    others = [path.name for path in outputs if path.suffix != ".gpkg"]
    sample = digest_folder(folder / "sample")
    del sample[SCENES_FILE]
    digests = {
        Path(name).name: digest
        for name, digest in digest_folder(folder / "out").items()
    }
    checks = {
        "rows": sorted(Path(row.scene).stem for row in rows) == sorted(expected),
        "outputs": tables == Counter(expected) and len(expected) == count,
        "status": Counter(row.status for row in rows) == {"skipped": count},
        "files that are left": others == [SCENES_FILE],
        "sample": all(digests[name] == digest for name, digest in sample.items()),
    }
    return [name for name, is_right in checks.items() if not is_right]


def main(
    bundle: Annotated[Path, typer.Argument(help="Bundle or run.")],
    raster: Annotated[Path, typer.Argument(help="Image with the bands of the bundle.")],
    grid: Annotated[int, typer.Option(help="Size of a tile, see rsft predict.")],
    scenes: Annotated[int, typer.Option(help="Number of scenes.")] = 2000,
    side: Annotated[int, typer.Option(help="Pixels along a side of a scene.")] = 96,
    seed: Annotated[int, typer.Option(help="Seed of the positions.")] = 0,
) -> None:
    """Print what happened, and exit with 1 if anything is wrong."""
    os.environ |= RAY_SETTINGS  # read at the import
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory(prefix="rsft-") as temporary:
        folder = Path(temporary)
        cut_scenes(raster, folder, scenes, side, seed)
        tiles = ("--grid", str(grid))
        head = {"num_cpus": 1, "include_dashboard": False}
        cluster: Any = Cluster(initialize_head=True, head_node_args=head)
        node = cluster.add_node(num_cpus=1)
        os.environ["RAY_ADDRESS"] = cluster.address
        table = folder / "out" / SCENES_FILE
        began = time.monotonic()
        command = start_command(folder, bundle, "all.txt", "out", *tiles, "--ray")
        while command.poll() is None and count_rows(table) < scenes // 3:
            time.sleep(0.1)
        rows = count_rows(table)
        print(f"killed {kill_node(node)} processes after {rows} scenes", flush=True)
        code = command.wait()
        print(f"exit code {code} after {time.monotonic() - began:.0f} s")
        print(Counter(row.status for row in read_scenes(table)))
        resumed = sum(row.resumed for row in read_scenes(table))
        print(f"{resumed} scenes continued the journal of a killed process", flush=True)
        codes = [code]
        codes += [
            start_command(folder, bundle, "all.txt", "out", *tiles, "--ray").wait()
        ]
        cluster.shutdown()
        codes += [start_command(folder, bundle, "sample.txt", "sample", *tiles).wait()]
        faults = describe_faults(folder, scenes)
        print(f"exit codes {codes}; faults: {', '.join(faults) or 'none'}")
    if faults or any(codes):
        raise typer.Exit(1)


if __name__ == "__main__":
    with explained_errors():
        typer.run(main)
