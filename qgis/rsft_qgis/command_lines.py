"""Build command lines of rsft. This module does not import QGIS."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

Options = Mapping[str, object]
"""Option -> value. None and False leave the option out; True gives it without a
value."""

UNITS = (
    "amplitude",
    "intensity",
    "sigma0",
    "db",
    "gamma0",
    "gamma0_db",
    "beta0",
    "sentinel1_dn",
)
"""Units that --unit takes."""

AS_DECLARED = "as the scene declares"
"""First choice of the unit: no option."""

LAND_METHODS = ("auto", "brightness", "none")
"""Values of --land that are not files."""


PARAMETER_NAMES = {
    "--at": "Positions",
    "--grid": "Tile size",
    "--detect": "Detect and classify",
    "--size": "Chip size",
    "--stride": "Step between tiles",
    "--pfa": "Probability of a false alarm",
    "--land": "Land",
    "--unit": "Unit",
    "--bands": "Names of the bands",
    "--spacing": "Pixel spacing",
    "--resample-to": "Resample chips to this spacing",
    "--html": "Review page",
    "--out": "Predictions",
    "--field": "Field with corrected classes",
    "--not-a-target": "Class for what is not a target",
    "--background": "Background chips per scene",
    "--split": "Divide between training and validation",
    "--root": "Chip store",
    "--ais": "AIS messages",
    "--time": "Time of the scene",
    "--new-class": "New classes",
    "--from": "Bundle",
    "--runs": "Folder of runs",
}
"""Option of rsft -> start of the name that the parameter has in the dialogs."""

_OPTION = re.compile(r"(?<![\w/-])--[a-z][a-z-]*")

TABLE_SUFFIXES = (".gpkg", ".geojson", ".csv", ".parquet")
"""Suffixes of the tables that `rsft data add` reads."""


@dataclass(frozen=True)
class PixelOptions:
    """How the pixels of a scene are read.

    Attributes:
        unit: unit of the pixels.
        bands: names of the bands, separated by commas.
        spacing: pixel spacing in meters.
        resample_to: pixel spacing of the chips in meters.
        modulus: whether to take the modulus of complex pixels.
        calibrate: calibration factor.
        keep_noise: whether to keep the thermal noise of Sentinel-1 products.
    """

    unit: str | None = None
    bands: str | None = None
    spacing: float | None = None
    resample_to: float | None = None
    modulus: bool = False
    calibrate: float | None = None
    keep_noise: bool = False

    def options(self) -> dict[str, object]:
        """Return the options of `rsft predict`."""
        read = []
        if self.modulus:
            read.append("modulus")
        if self.calibrate is not None:
            read.append(f"calibrate={self.calibrate}")
        if self.keep_noise:
            read.append("keep-noise")
        return {
            "--unit": None if self.unit == AS_DECLARED else self.unit,
            "--bands": self.bands,
            "--spacing": self.spacing,
            "--resample-to": self.resample_to,
            "--read": read,
        }


def position_options(
    path: str, layer: str, side: int | None, margin: int | None
) -> dict[str, object]:
    """Return the options that classify chips at given positions.

    Args:
        path: file of the points or polygons.
        layer: name of the layer in the file; empty if the file has one layer.
        side: chip size in pixels.
        margin: margin in pixels of chips along boxes.
    """
    size = side if margin is None else f"box+{margin}"
    return {"--at": path, "--layer": layer, "--size": size}


def tile_options(tile: int, stride: int | None) -> dict[str, object]:
    """Return the options that classify tiles.

    Args:
        tile: size of a tile in pixels.
        stride: step between tiles in pixels.
    """
    return {"--grid": tile, "--stride": stride}


def detection_options(side: int | None, pfa: float, land: str) -> dict[str, object]:
    """Return the options that detect objects and classify them.

    Args:
        side: chip size in pixels.
        pfa: probability of a false alarm per pixel of water.
        land: a file of polygons, or one of `LAND_METHODS`.
    """
    return {"--detect": True, "--size": side, "--pfa": pfa, "--land": land}


def predict_command(
    executable: str,
    bundle: str,
    scene: str,
    out: str,
    options: Options,
    extra: str = "",
) -> list[str]:
    """Return the command that classifies a scene and prints JSON lines.

    It replaces an existing table.

    Args:
        executable: path of rsft.
        bundle: folder of the bundle.
        scene: path or address of the scene.
        out: path of the table.
        options: options of `rsft predict`.
        extra: further options, as typed in a shell.

    Raises:
        ValueError: a quote in `extra` is not closed.

    Example:
        >>> predict_command("rsft", "bundle", "a.tif", "a.gpkg", tile_options(32, None))[-4:]
        ['--overwrite', '--json', '--grid', '32']
    """
    command = [
        executable,
        "predict",
        bundle,
        scene,
        "--out",
        out,
        "--overwrite",
        "--json",
    ]
    return command + command_words(options, extra)


def cut_command(
    executable: str, scenes: str, store: str, options: Options, extra: str = ""
) -> list[str]:
    """Return the command that cuts training chips from scenes and prints JSON lines.

    Args:
        executable: path of rsft.
        scenes: a scene, or a folder of scenes.
        store: folder of the new chip store.
        options: options of `rsft prepare scenes`.
        extra: further options, as typed in a shell.

    Raises:
        ValueError: a quote in `extra` is not closed.
    """
    command = [executable, "prepare", "scenes", scenes, "--root", store, "--json"]
    return command + command_words(options, extra)


def command_words(options: Options, extra: str = "") -> list[str]:
    """Return options, and further ones as typed in a shell, as words of a command.

    Args:
        options: value by option.
        extra: further options.

    Raises:
        ValueError: a quote in `extra` is not closed.
    """
    words: list[str] = []
    for name, value in options.items():
        if isinstance(value, list):
            for item in value:
                words += [name, str(item)]
        elif value is True:
            words.append(name)
        elif value is not None and value is not False and value != "":
            words += [name, str(value)]
    return words + shlex.split(extra)


@dataclass(frozen=True)
class LabelOptions:
    """How corrected labels join a chip store.

    Attributes:
        field: field of the labels.
        not_a_target: class of chips that are not a target; empty leaves them out.
        new_classes: classes that the store does not have yet, separated by commas.
        unit: unit of the chip files.
        bands: names of their bands, separated by commas.
        source: folder of the chip files; empty if they are beside the layer, or cut
            from a scene.
    """

    field: str = "corrected"
    not_a_target: str = ""
    new_classes: str = ""
    unit: str = AS_DECLARED
    bands: str = ""
    source: str = ""

    def options(self) -> list[str]:
        """Return the options of `rsft data add`."""
        values = {
            "--field": self.field,
            "--not-a-target": self.not_a_target,
            "--bands": self.bands,
        }
        values["--unit"] = "" if self.unit == AS_DECLARED else self.unit
        values["--source"] = self.source
        words = [
            word for name, value in values.items() if value for word in (name, value)
        ]
        for name in filter(
            None, (name.strip() for name in self.new_classes.split(","))
        ):
            words += ["--new-class", name]
        return words


def add_command(
    executable: str, store: str, table: str, labels: LabelOptions
) -> list[str]:
    """Return the command that joins the labels of a table to a chip store and prints one JSON line.

    Args:
        executable: path of rsft.
        store: folder of the chip store.
        table: file of the corrected layer.
        labels: field of the labels, and what becomes of them.
    """
    return [executable, "data", "add", store, table, "--json", *labels.options()]


def finetune_command(
    executable: str, bundle: str, store: str, runs: str, extra: str = ""
) -> list[str]:
    """Return the command that starts a short run at a bundle and prints JSON lines, one for every step.

    Args:
        executable: path of rsft.
        bundle: folder of the bundle.
        store: folder of the chip store.
        runs: folder of the new run.
        extra: further options and overrides of the recipe, as typed in a shell.

    Raises:
        ValueError: a quote in `extra` is not closed.
    """
    command = [
        executable,
        "finetune",
        "--from",
        bundle,
        "--runs",
        runs,
        "--json",
    ]
    return [*command, f"data.root={store}", *shlex.split(extra)]


def bundle_command(executable: str, bundle: str) -> list[str]:
    """Return the command that prints the description of a bundle as JSON.

    Args:
        executable: path of rsft.
        bundle: folder of the bundle.
    """
    return [executable, "bundle", "show", bundle, "--json"]


def name_parameters(text: str) -> str:
    """Replace options in an error of rsft by the names of the parameters.

    Other options remain.

    Args:
        text: the error.

    Example:
        >>> name_parameters("give --grid 64")
        'give "Tile size" 64'
    """
    text = text.replace("give --overwrite to replace it, or another", "choose another")
    return _OPTION.sub(
        lambda found: (
            f'"{PARAMETER_NAMES[found[0]]}"'
            if found[0] in PARAMETER_NAMES
            else found[0]
        ),
        text,
    )


def display_command(command: list[str]) -> str:
    """Return a command as a line that can be pasted into a shell."""
    return shlex.join(command)


def table_path(source: str) -> str:
    """Return the file of a vector layer of QGIS.

    Args:
        source: source of the layer, such as "/data/a.gpkg|layername=predictions".

    Raises:
        ValueError: the layer is not in a file that `rsft data add` reads.

    Example:
        >>> table_path("/data/a.gpkg|layername=predictions")
        '/data/a.gpkg'
    """
    path = source.split("|", 1)[0]
    if not path.lower().endswith(TABLE_SUFFIXES):
        raise ValueError(
            f"the layer is not in a file {', '.join(TABLE_SUFFIXES)} that rsft wrote:"
            f" {path}"
        )
    return path


def raster_location(source: str) -> str:
    """Return the name by which GDAL opens a raster layer of QGIS: its source without open options.

    Args:
        source: source of the layer, such as "/data/a.tif|option:NUM_THREADS=2".
    """
    return source.split("|", 1)[0]
