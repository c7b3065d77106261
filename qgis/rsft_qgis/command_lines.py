"""Build command lines of rsft. This module does not import QGIS."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass

Options = Mapping[str, object]
"""Option -> value. None and False leave the option out; True gives it without a value."""

UNITS = ("amplitude", "intensity", "sigma0", "db", "gamma0", "gamma0_db", "beta0")
"""Units that --unit takes."""

AS_DECLARED = "as the scene declares"
"""First choice of the unit: no option."""

LAND_METHODS = ("auto", "brightness", "none")
"""Values of --land that are not files."""


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
        values = asdict(self)
        values["unit"] = None if self.unit == AS_DECLARED else self.unit
        return {f"--{name.replace('_', '-')}": value for name, value in values.items()}


def position_options(path: str, layer: str, side: int | None, margin: int | None) -> dict[str, object]:
    """Return the options that classify chips at given positions.

    Args:
        path: file of the points or polygons.
        layer: name of the layer in the file; empty if the file has one layer.
        side: chip size in pixels.
        margin: margin in pixels of chips along boxes.
    """
    return {"--at": path, "--layer": layer, "--side": side, "--margin": margin}


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
    return {"--detect": True, "--side": side, "--pfa": pfa, "--land": land}


def predict_command(executable: str, bundle: str, scene: str, out: str, options: Options, extra: str = "") -> list[str]:
    """Return the command that classifies a scene and prints JSON lines. It replaces an existing table.

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
    command = [executable, "predict", bundle, scene, "--out", out, "--overwrite", "--json"]
    for name, value in options.items():
        if value is True:
            command.append(name)
        elif value is not None and value is not False and value != "":
            command += [name, str(value)]
    return command + shlex.split(extra)


def bundle_command(executable: str, bundle: str) -> list[str]:
    """Return the command that prints the description of a bundle as JSON.

    Args:
        executable: path of rsft.
        bundle: folder of the bundle.
    """
    return [executable, "bundle", "show", bundle, "--json"]


def display_command(command: list[str]) -> str:
    """Return a command as a line that can be pasted into a shell."""
    return shlex.join(command)


def raster_location(source: str) -> str:
    """Return the name by which GDAL opens a raster layer of QGIS: its source without open options.

    Args:
        source: source of the layer, such as "/data/a.tif|option:NUM_THREADS=2".
    """
    return source.split("|", 1)[0]
