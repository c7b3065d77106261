"""Run whole commands on the inputs of a stranger."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import yaml

from tests.helpers.scenes import UTM, write_geotiff
from tests.helpers.style import ROOT
from tests.security.carriers import HEIGHT, WIDTH, Carrier, Place

COMMANDS = {
    "scene": (
        "predict {bundle} {path} --at {given}/at.csv -o {out}/o.gpkg"
        " --chips {out}/chips --html {out}/o.html --picture {out}/o.png",
        "predict {bundle} {path} --grid 64 -o {out}/o.csv --chips {out}/chips",
        "predict {bundle} {path} --detect --land none -o {out}/o.geojson"
        " --html {out}/o.html --picture {out}/o.png",
        "prepare scenes {path} --at {given}/at.csv --root {out}/store --split object"
        " --size 32 --jobs 1",
        "ais match {path} --ais {given}/ais.csv --time 2021-01-19T03:16:53Z"
        " --land none -o {out}/o.gpkg",
        "detect {path} --land none --pfa 0.01 -o {out}/o.gpkg --chips {out}/chips",
        "embed {path} --bundle {bundle} -o {out}/o.parquet",
    ),
    "layer": (
        "predict {bundle} {given}/scene.tif --at {path} --crs pixel -o {out}/o.gpkg"
        " --chips {out}/chips --html {out}/o.html",
        "predict {bundle} {given}/scene.tif --detect --land {path} -o {out}/o.csv",
        "prepare scenes {given}/scene.tif --at {path} --crs pixel --field note"
        " --root {out}/store --split object --size 32 --jobs 1",
        "data add {store} {path} --field note",
        "data suggest {path} -o {out}/o.html",
        "detect {given}/scene.tif --land {path} --pfa 0.01 -o {out}/o.gpkg",
    ),
    "chip": (
        "predict {bundle} {folder} -o {out}/o.geojson --html {out}/o.html",
        "prepare folder {folder} --root {out}/store",
        "audit {folder} -o {out}/o.json",
        "evaluate {bundle} {folder} --split all -o {out}/evaluation",
        "embed {folder} --bundle {bundle} -o {out}/o.parquet",
        "data suggest {folder} -o {out}/o.html",
        "finetune {given}/bars.yaml data.root={given}/store data.unlabeled={folder}"
        " semi.start=0 --runs {out}/runs --no-report",
    ),
    "table": (
        "data add {store} {path}",
        "data suggest {path} -o {out}/o.html",
        "report {run} --map {path}",
        "predict {bundle} {given}/scene.tif --at {path} --crs pixel -o {out}/o.gpkg",
        "prepare vectors {path} --root {out}/vectors",
    ),
    "list": (
        "prepare folder {path} --root {out}/store",
        "finetune {path} --root {out}/store --runs {out}/runs budget=1min",
        "data add {store} {path}",
    ),
    "label": (
        "prepare scenes {given}/scene.tif --at {path} --root {out}/store"
        " --split object --size 32 --jobs 1",
        "prepare scenes {folder} {given}/scene.tif --at {folder} --root {out}/store"
        " --split object --size 32 --jobs 1",
        "predict {bundle} {given}/scene.tif --at {path} -o {out}/o.gpkg",
    ),
    "feed": (
        "ais match {given}/scene.tif --ais {path} --time 2021-01-19T03:16:53Z"
        " --land none -o {out}/o.gpkg --html {out}/o.html",
    ),
    "recipe": (
        "recipes validate {path}",
        "finetune {path} --runs {out}/runs --no-report",
        "sweep {path} --runs {out}/runs",
    ),
    "bundle": (
        "bundle show {path}",
        "bundle card {path} -o {out}/card.md",
        "predict {path} {given}/scene.tif --at {given}/at.csv -o {out}/o.gpkg"
        " --html {out}/o.html",
        "evaluate {path} {given}/chips --split all -o {out}/evaluation",
        "export {path} --format timm -o {out}/export",
        "finetune --from {path} --runs {out}/runs --no-report train.epochs=1",
        "finetune --from {path} data.root={given}/store --runs {out}/runs"
        " --no-report train.epochs=1",
        "embed {given}/chips --bundle {path} -o {out}/o.parquet",
        "bundle verify {path}",
        "bundle stac {path} -o {out}/item.json",
    ),
    "run": (
        "runs show {path}",
        "runs ls {folder}",
        "report {copy}",
        "evaluate {path} {given}/store -o {out}/evaluation",
        "finetune {copy} --resume --no-report",
    ),
    "store": (
        "data show {path}",
        "data stats {path}",
        "data suggest {path} -o {out}/o.html",
        "data croissant {copy}",
        "data add {copy} {given}/corrected.csv",
        "audit {path} -o {out}/audit.json",
        "evaluate {bundle} {path} --split all -o {out}/evaluation",
        "predict {bundle} {path} -o {out}/o.geojson --html {out}/o.html",
        "finetune {given}/bars.yaml data.root={path} --runs {out}/runs --no-report",
        "finetune {given}/bars.yaml data.root={given}/store data.unlabeled={path}"
        " semi.start=0 --runs {out}/runs --no-report",
        "embed {path} --bundle {bundle} -o {out}/o.parquet",
        "prepare folder {path} --root {out}/store",
    ),
    "page": (
        "predict {path} {given}/scene.tif --at {given}/at.csv -o {out}/o.gpkg"
        " --html {out}/o.html --picture {out}/o.png",
        "predict {path} {given}/scene.tif --at {given}/at.csv -o {out}/o.csv",
        "bundle show {path}",
        "bundle card {path} -o {out}/card.md",
    ),
}
COMMANDS["delivery"] = COMMANDS["scene"]
"""Commands by the kind of their input. {path} is the carrier, and {folder} its folder;
{given} contains honest inputs; {store} is a copy of an honest chip store, and {copy} one of the carrier."""
COMMANDS["item"] = tuple(
    command.replace("{path}", path)
    for command in COMMANDS["scene"]
    for path in ("{path}", "{folder}/*.json")
)

Job = tuple[list[str], str, str]
"""Words of a command, the folder in which it runs, and the folder for its outputs."""


def write_honest(folder: Path, store: Path, run: Path) -> None:
    """Write an honest input of each kind.

    Args:
        folder: the folder to write.
        store: an honest chip store.
        run: the folder of a run on it.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 255, (HEIGHT, WIDTH), np.uint8)
    write_geotiff(folder / "scene.tif", pixels, crs="EPSG:32633", transform=UTM)
    rows = "33,33,flat\n200,200,steep\n400,300,flat\n300,300,steep\n"
    (folder / "at.csv").write_text(f"row,col,class\n{rows}")
    (folder / "ais.csv").write_text(
        "MMSI,BaseDateTime,LAT,LON,SOG,COG\n"
        "211000001,2021-01-19T03:16:00,54.0,8.0,0.0,0.0\n"
        "211000001,2021-01-19T03:18:00,54.0,8.0,0.0,0.0\n"
    )
    shutil.copytree(store, folder / "store")
    shutil.copytree(store / "chips", folder / "chips")
    (chip, *_) = sorted((folder / "store/chips/train/flat").iterdir())
    (folder / "corrected.csv").write_text(f"path,class\n{chip},steep\n")
    copy = shutil.copytree(run, folder / "runs/bars/001")
    recipe = yaml.safe_load((copy / "recipe.yaml").read_text())
    recipe["data"]["root"] = str(folder / "store")
    recipe["train"]["epochs"] = 1
    (folder / "bars.yaml").write_text(yaml.safe_dump(recipe))
    (copy / "recipe.yaml").write_text(yaml.safe_dump(recipe))


def build_carrier(kind: str, build: Carrier, place: Place) -> Path:
    """Build a carrier in a new folder, and return its path.

    A chip lies in class folders with honest chips.
    """
    if kind != "chip":
        place.folder.mkdir()
        return build(place)
    classes = place.folder / "train"
    shutil.copytree(place.honest / "store/chips/train", classes)
    return build(replace(place, folder=classes / "flat"))


def make_jobs(
    kind: str, path: Path, place: Place, out: Path, start: str = ""
) -> dict[str, Job]:
    """Return the jobs of a carrier by their names.

    Args:
        kind: kind of the carrier.
        path: its path.
        place: where it was built.
        out: folder for the outputs of all jobs.
        start: only commands that begin with this text.
    """
    jobs = {}
    run = "runs/bars/001"
    for number, command in enumerate(COMMANDS[kind], 1):
        if not command.startswith(start):
            continue
        name = f"{place.folder.name}-{number}"
        names = {"path": path, "folder": place.folder, "given": place.honest}
        names |= {"out": out / name, "bundle": place.honest / "runs/bars"}
        for copy, original in {
            "store": place.honest / "store",
            "run": place.honest / run,
            "copy": path,
        }.items():
            names[copy] = out / name / copy
            if f"{{{copy}}}" in command:
                shutil.copytree(original, names[copy], symlinks=True)
        words = [word.format(**names) for word in command.split()]
        jobs[name] = words, str(place.folder), str(out / name)
    return jobs


def run_jobs(
    jobs: dict[str, Job], folder: Path, *, walls: bool, naive: bool = False
) -> dict[str, int]:
    """Run commands with default settings, and return their exit statuses.

    Args:
        jobs: the jobs.
        folder: folder for the home and the cache of the commands.
        walls: whether the walls of the kernel stand.
        naive: whether the functions that check names check nothing.
    """
    environment = dict(os.environ) | {
        "HOME": str(folder / "home"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "TMPDIR": str(folder / "temporary"),
        "RSFT_STORES": str(folder / "stores.json"),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
        "PYTHONPATH": str(ROOT),
    }
    environment.pop("CPL_VSIL_CURL_ALLOWED_FILENAME", None)
    if naive:
        environment["RSFT_NAIVE"] = "1"
    if not walls:
        wall_less = ROOT / "tests/helpers/wall_less"
        environment["PYTHONPATH"] = os.pathsep.join([str(wall_less), str(ROOT)])
    for name in ("home", "cache", "temporary"):
        (folder / name).mkdir(exist_ok=True)
    process = subprocess.run(
        [sys.executable, "-m", "tests.helpers.forked_commands"],
        input=json.dumps(jobs),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


class _ActiveNames(HTMLParser):
    """Finds elements that load an address when a browser opens the page."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            loads = name in ("src", "href", "style", "srcset", "data", "action")
            if (loads or name.startswith("on")) and self.url in (value or ""):
                self.found.append(f"{tag} {name}")


def find_active_names(folder: Path, url: str) -> list[str]:
    """Return the outputs in which a name acts: it loads an address in a browser, is a
    formula of a spreadsheet or a code of a terminal."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        text = path.read_bytes().decode(errors="replace")
        if path.suffix in (".html", ".svg", ".md"):
            parser = _ActiveNames(url)
            parser.feed(text)
            is_active = bool(parser.found)
        elif path.suffix == ".csv":
            is_active = bool(re.search(r'(^|,)"?=', text, re.MULTILINE))
        else:
            is_active = path.name == "printed.txt" and "\x1b]8" in text
        if is_active:
            found.append(str(path.relative_to(folder)))
    return found
