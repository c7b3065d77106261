"""Write small Sentinel-1 products in ESA's format, and calibrate them pixel by pixel
from ESA's formula."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from tests.helpers.scenes import UTM, ground_control_points, write_geotiff

NAME = "S1A_IW_GRDH_1SDV_20210119T031653_20210119T031718_036201_043ED0_8255"
TABLES = {"sigma0": "sigmaNought", "gamma0": "gamma", "beta0": "betaNought"}


def write_product(
    folder: Path, pixels: dict[str, np.ndarray], *, cog: bool = False, **tables: object
) -> Path:
    """Write a product and return its .SAFE folder.

    Args:
        folder: folder in which the .SAFE folder is made.
        pixels: digital numbers (H, W) by polarization, such as {"vv": ..., "vh": ...}.
        cog: whether files are named as in cloud-optimized products.
        tables: `noise` and `calibration` of `write_metadata`.
    """
    safe = folder / f"{NAME}{'_COG' if cog else ''}.SAFE"
    for number, (name, band) in enumerate(pixels.items(), 1):
        path = write_metadata(safe, name, number, band.shape, cog=cog, **tables)
        gcps = ground_control_points(UTM, *band.shape, "EPSG:32633")
        write_geotiff(path, band, crs="EPSG:4326", gcps=gcps)
    return safe


def write_metadata(
    safe: Path,
    polarization: str,
    number: int,
    shape: tuple[int, int],
    *,
    cog: bool = False,
    noise: str | None = "new",
    calibration: bool = True,
) -> Path:
    """Write the XML files of a measurement, and return the path at which the
    measurement belongs.

    Args:
        safe: the .SAFE folder.
        polarization: such as "vv".
        number: number of the measurement, from 1.
        shape: height and width of the measurement.
        cog: see `write_product`.
        noise: "new" for range and azimuth vectors, "old" for range vectors alone,
            "zero" for these with zeros, as IPF 2.36 writes them, None for no noise
            files.
        calibration: whether there are calibration files.
    """
    stem = f"s1a-iw-grd-{polarization}-20210119t031653-20210119t031718-036201-043ed0-00{number}{'-cog' if cog else ''}"
    for name in ("measurement", "annotation/calibration"):
        (safe / name).mkdir(parents=True, exist_ok=True)
    (safe / "manifest.safe").write_text("<manifest/>")
    (safe / f"annotation/{stem}.xml").write_text(_annotation(*shape))
    folder = safe / "annotation/calibration"
    if calibration:
        (folder / f"calibration-{stem}.xml").write_text(_calibration(*shape, number))
    if noise is not None:
        (folder / f"noise-{stem}.xml").write_text(_noise(*shape, number, noise))
    return safe / f"measurement/{stem}.tiff"


def zip_product(safe: Path) -> Path:
    """Pack a product as ESA delivers it, and return the archive."""
    path = safe.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(safe.rglob("*")):
            archive.write(
                file, file.relative_to(safe.parent).as_posix() + "/" * file.is_dir()
            )
    return path


def calibrate_pixel(
    safe: Path, polarization: str, dn: float, row: int, col: int, unit: str, noise: bool
) -> float:
    """Calibrate one pixel: (DN^2 - noise) / A^2, at least 1 / A^2, one vector after the
    other.

    Args:
        safe: the .SAFE folder.
        polarization: the measurement, such as "vv".
        dn: digital number.
        row: line of the pixel.
        col: pixel in the line.
        unit: "sigma0", "gamma0" or "beta0".
        noise: whether thermal noise is subtracted.
    """
    (path,) = (safe / "annotation/calibration").glob(
        f"calibration-*-{polarization}-*.xml"
    )
    root = _parse(path)
    scale = _bilinear(root.findall(".//calibrationVector"), TABLES[unit], row, col)
    if not noise:
        return dn**2 / scale**2
    (path,) = (safe / "annotation/calibration").glob(f"noise-*-{polarization}-*.xml")
    root = _parse(path)
    old = root.findall(".//noiseVector")
    power = _bilinear(old, "noiseLut", row, col) if old else 0.0
    if not old:
        power = _bilinear(
            root.findall(".//noiseRangeVector"), "noiseRangeLut", row, col
        )
        for vector in root.findall(".//noiseAzimuthVector"):
            first = int(vector.findtext("firstAzimuthLine"))
            last = int(vector.findtext("lastAzimuthLine"))
            left = int(vector.findtext("firstRangeSample"))
            right = int(vector.findtext("lastRangeSample"))
            if first <= row <= last and left <= col <= right:
                power *= np.interp(
                    row, _numbers(vector, "line"), _numbers(vector, "noiseAzimuthLut")
                )
    return max(dn**2 - power, 1) / scale**2


@cache
def _parse(path: Path) -> ElementTree.Element:
    return ElementTree.parse(path).getroot()


@cache
def _numbers(parent: ElementTree.Element, name: str) -> list[float]:
    return [float(word) for word in parent.findtext(name).split()]


def _bilinear(
    vectors: list[ElementTree.Element], element: str, row: int, col: int
) -> float:
    values = [
        np.interp(col, _numbers(vector, "pixel"), _numbers(vector, element))
        for vector in vectors
    ]
    return float(
        np.interp(row, [float(vector.findtext("line")) for vector in vectors], values)
    )


def _annotation(height: int, width: int) -> str:
    """Return an annotation: lines 1.5 ms apart, slant ranges from 800 to 950 km, and an
    orbit with 7600 m/s."""
    points = "".join(
        f"<geolocationGridPoint><line>{line}</line><pixel>{pixel}</pixel>"
        f"<azimuthTime>2021-01-19T03:16:{53.799379 + 1.5e-3 * line:.6f}</azimuthTime>"
        f"<slantRangeTime>{2 * (800e3 + 150e3 * pixel / (width - 1)) / 299_792_458:.15e}</slantRangeTime>"
        f"<incidenceAngle>{30 + 16 * pixel / (width - 1) + 0.1 * line / (height - 1)}</incidenceAngle>"
        "</geolocationGridPoint>"
        for line in (0, height - 1)
        for pixel in (0, width // 2, width - 1)
    )
    return (
        "<?xml version='1.0'"
        " encoding='UTF-8'?><product><adsHeader><missionId>S1A</missionId>"
        "<productType>GRD</productType><startTime>2021-01-19T03:16:53.799379</startTime>"
        f"<stopTime>2021-01-19T03:16:{53.799379 + 1.5e-3 * (height - 1):.6f}</stopTime></adsHeader>"
        "<generalAnnotation><productInformation><pass>Descending</pass></productInformation><orbitList><orbit>"
        "<velocity><x>-4560</x><y>0</y><z>-6080</z></velocity></orbit></orbitList></generalAnnotation>"
        f"<geolocationGrid><geolocationGridPointList>{points}</geolocationGridPointList></geolocationGrid></product>"
    )


def _vector(tag: str, line: int, pixels: np.ndarray, **tables: Sequence[float]) -> str:
    lists = {"pixel": pixels, **tables}
    texts = {
        name: " ".join(f"{value:.9g}" for value in values)
        for name, values in lists.items()
    }
    text = "".join(
        f'<{name} count="{len(lists[name])}">{values}</{name}>'
        for name, values in texts.items()
    )
    return f"<{tag}><line>{line}</line>{text}</{tag}>"


def _calibration(height: int, width: int, number: int) -> str:
    pixels = np.unique(np.linspace(0, width - 1, 7).astype(int))
    vectors = ""
    for line in np.unique(np.linspace(0, height - 1, 4).astype(int)):
        base = 450 + 30 * number - 90 * pixels / width + 4 * np.sin(line)
        tables = {
            "sigmaNought": base * 1.2,
            "betaNought": base,
            "gamma": base * 1.1,
            "dn": base,
        }
        vectors += _vector("calibrationVector", line, pixels, **tables)
    return f"<calibration><calibrationVectorList>{vectors}</calibrationVectorList></calibration>"


def _noise(height: int, width: int, number: int, form: str) -> str:
    old = form != "new"
    factor = float(form != "zero")
    pixels = np.unique(np.linspace(0, width - 1, 9).astype(int))
    kind = "noise" if old else "noiseRange"
    text = ""
    for line in np.unique(np.linspace(0, height - 1, 3).astype(int)):
        table = {
            f"{kind}Lut": (
                factor
                * (900 / number * (1.5 + np.cos(pixels / 9) / 2) + 90 * line / height)
            )
        }
        text += _vector(f"{kind}Vector", line, pixels, **table)
    text = f"<{kind}VectorList>{text}</{kind}VectorList>"
    middle = width // 3
    lines = np.unique(np.linspace(0, height - 1, 11).astype(int))
    azimuth = ""
    for left, right, level in ((0, middle - 1, 1.1), (middle, width - 1, 0.9)):
        factors = " ".join(f"{level + 0.05 * np.sin(line):.6e}" for line in lines)
        azimuth += (
            "<noiseAzimuthVector><swath>IW1</swath><firstAzimuthLine>0</firstAzimuthLine>"
            f"<firstRangeSample>{left}</firstRangeSample><lastAzimuthLine>{height - 1}</lastAzimuthLine>"
            f"<lastRangeSample>{right}</lastRangeSample><line>{' '.join(map(str, lines))}</line>"
            f"<noiseAzimuthLut>{factors}</noiseAzimuthLut></noiseAzimuthVector>"
        )
    return f"<noise>{text}{'' if old else f'<noiseAzimuthVectorList>{azimuth}</noiseAzimuthVectorList>'}</noise>"
