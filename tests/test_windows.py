"""The main jobs on a fake of Windows, with the start method `spawn`; calls of POSIX
stay in their modules."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely

from tests.helpers.bars_recipe import BARS_RECIPE
from tests.helpers.fake_windows.sitecustomize import MISSING, MISSING_MODULES
from tests.helpers.scenes import UTM, write_geotiff
from tests.helpers.style import files_of, nodes_of

ROOT = Path(__file__).parents[1]
FAKE = ROOT / "tests/helpers/fake_windows"
POSIX_MODULES = {
    "rsft/utils/operating_system.py",
    "rsft/utils/cell/walls.py",  # Landlock and seccomp, Linux only
    "rsft/peft/kernels/buffer_pool.py",  # rsft.peft imports no other package
}
PROGRAM = """
import json, sys
from pathlib import Path
from rsft.cli import run
from rsft.data.loading import packing

packing._MIN_CHIPS_FOR_TWO_JOBS = 40  # training chips
if __name__ == "__main__":
    for words in json.loads(Path(sys.argv[1]).read_text("utf-8")):
        sys.argv = ["rsft", *words]
        try:
            run()
        except SystemExit as stop:
            assert not stop.code, words
"""


def run_on_windows(folder, command):
    """Run Python on the fake; return what it printed and the faults that it
    recorded."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("RSFT_")
    }
    environment |= {
        "PYTHONPATH": os.pathsep.join([str(FAKE), str(ROOT)]),
        "RSFT_FAULTS": str(folder / "faults.log"),
    }
    environment |= {
        "PYTHONIOENCODING": "cp1252",
        "PYTHONWARNDEFAULTENCODING": "1",
        "OMP_NUM_THREADS": "1",
    }
    (folder / "faults.log").touch()
    options = {
        "cwd": folder,
        "env": environment,
        "timeout": 850,
        "capture_output": True,
        "encoding": "cp1252",
    }
    done = subprocess.run([sys.executable, *command], check=False, **options)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return (
        done.stdout + done.stderr,
        (folder / "faults.log").read_text("utf-8").splitlines(),
    )


@pytest.mark.parametrize(
    ("action", "error"),
    [
        ("os.fork()", "AttributeError"),
        ("import fcntl", "ImportError"),
        ("signal.SIGKILL", "AttributeError"),
        ("file = open('a', 'rb'); Path('b').replace('a')", "PermissionError"),
        (
            "array = np.load('c.npy', mmap_mode='r'); Path('c.npy').unlink()",
            "PermissionError",
        ),
        ("Path('d/nul.txt').write_text('', 'utf-8')", "OSError"),
        ("Path('b').read_text()", "EncodingWarning"),
    ],
)
def test_the_fake(tmp_path, action, error):
    (tmp_path / "d").mkdir()
    for name in "ab":
        (tmp_path / name).write_text(name)
    np.save(tmp_path / "c.npy", np.zeros(3))
    lines = [
        "import os, signal, sys",
        "import numpy as np",
        "from pathlib import Path",
        "assert sys.platform == 'win32'",
    ]
    code = "\n".join(
        [*lines, f"try:\n    {action}\nexcept {error}:\n    print('refused')"]
    )
    run = (
        f"import types; names = {{'__name__': 'rsft.fake'}}; exec(compile({code!r},"
        " 'fake.py', 'exec'), names)"
    )
    assert run_on_windows(tmp_path, ["-c", run])[0].strip() == "refused"


@pytest.mark.slow
def test_main_jobs(class_folders, tmp_path):
    """Prepare, audit, train with and without a cache of frozen blocks, predict, replace
    the prediction, and report."""
    (tmp_path / "bars.yaml").write_text(
        BARS_RECIPE.replace("ROOT", "store").replace("epochs: 3", "epochs: 1")
    )
    pixels = (
        np.random.default_rng(7).gamma(2, 15, (96, 96)).clip(1, 255).astype(np.uint8)
    )
    write_geotiff(tmp_path / "scene.tif", pixels, crs="EPSG:32633", transform=UTM)
    centers = [
        UTM @ (col, row) if hasattr(UTM, "__matmul__") else UTM * (col, row)
        for row in (30, 60)
        for col in (30, 60)
    ]
    points = geopandas.GeoDataFrame(
        {"number": range(4)},
        geometry=list(map(shapely.Point, centers)),
        crs="EPSG:32633",
    )
    points.to_file(tmp_path / "at.gpkg")
    predict = [
        "predict",
        "runs/bars",
        "scene.tif",
        "--at",
        "at.gpkg",
        "--size",
        "32",
        "-o",
        "map.gpkg",
    ]
    jobs = [
        ["prepare", "folder", str(class_folders), "--root", "store"],
        ["audit", "store"],
        [
            "finetune",
            "bars.yaml",
            "data.augment=none",
            "peft.blocks=last:2",
            "--no-report",
        ],
        ["finetune", "bars.yaml", "data.workers=1"],
        [*predict, "--html", "review.html", "--chips", "cut"],
        [*predict, "--overwrite"],
        ["predict", "runs/bars", "store/chips/val/flat", "-o", "flat.csv"],
        ["report", "runs/bars", "--map", "map.gpkg"],
        ["runs", "ls"],
    ]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    (tmp_path / "program.py").write_text(PROGRAM)
    printed, faults = run_on_windows(tmp_path, ["program.py", "jobs.json"])
    assert faults == [] and "this system has no walls" in printed
    assert len(pyogrio.read_dataframe(tmp_path / "map.gpkg", layer="predictions")) == 4
    assert (tmp_path / "runs/bars/002/report.html").is_file()
    left = [
        path for path in tmp_path.rglob(".*") if path.name not in (".cache", ".lock")
    ]
    assert left == [] and list(tmp_path.rglob("*.lock")) == []


def test_calls_that_windows_lacks_stay_in_their_modules():
    for path in sorted(
        set(files_of(ROOT / "rsft")) - {ROOT / name for name in POSIX_MODULES}
    ):
        for node in nodes_of(path):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = (
                    [node.module or ""]
                    if isinstance(node, ast.ImportFrom)
                    else [name.name for name in node.names]
                )
                assert not MISSING_MODULES & {
                    name.partition(".")[0] for name in names
                }, (path, node.lineno)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert node.attr not in MISSING.get(node.value.id, ()), (
                    path,
                    node.lineno,
                    node.attr,
                )
