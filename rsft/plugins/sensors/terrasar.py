"""Read TerraSAR-X, TanDEM-X and PAZ: calibration, incidence angles, times and orbit.

Sources: DLR, "TerraSAR-X Level 1b Product Format Specification" (TX-GS-DD-3307), and
Airbus, "Radiometric Calibration of TerraSAR-X Data" (TSXX-ITD-TN-0049): beta0 =
calFactor * DN^2, sigma0 = (calFactor * DN^2 - NEBN) * sin theta.

Left out: the noise NEBN is not subtracted. theta is the incidence angle at the
ellipsoid, not at the terrain (GIM.tif): of the geolocation grid (GEOREF.xml) or the
corners of the scene in radar geometry, and of a plane through the corners and the
center in a map projection.
"""

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from xml.etree.ElementTree import Element

import numpy as np
from rasterio.transform import AffineTransformer
from rasterio.warp import transform

from rsft.data.imagery.products.headers import (
    HeaderProduct,
    ScaledCalibration,
    read_numbers,
    read_plain_xml,
)
from rsft.data.imagery.products.product import LineTable, Product, RadarMotion
from rsft.types import Floats

_LIGHT_SPEED = 299_792_458.0  # meters per second


class TerraSarX(HeaderProduct):
    """A product of TerraSAR-X, TanDEM-X or PAZ: its folder, its XML file, or one of its images."""

    name: ClassVar[str] = "terrasar-x"
    title: ClassVar[str] = "TerraSAR-X"
    headers: ClassVar[tuple[str, ...]] = ("*.xml",)
    marker: ClassVar[bytes] = b"<level1Product"
    folders: ClassVar[tuple[str, ...]] = ("IMAGEDATA",)
    detected: ClassVar[str] = "a detected product (MGD, GEC or EEC)"
    product: Element

    def load(self) -> dict[str, Path] | None:
        """Read the header.

        COSAR files are left out: GDAL reads their complex pixels.
        """
        self.product = read_plain_xml(self.header)
        if self._text("imageDataInfo/imageDataType") == "COMPLEX":
            self.complex_kind = "SSC"
        else:
            self.complex_kind = ""
        images = {}
        for image in self.product.findall("productComponents/imageData"):
            parts = [
                image.findtext(f"file/location/{part}", "")
                for part in ("path", "filename")
            ]
            if not parts[1].endswith(".cos"):
                images[image.findtext("polLayer", "")] = self.header.parent.joinpath(
                    *parts
                )
        return images

    def describe(self, handles: Sequence[Any]) -> Product:
        """Read the calibration, the incidence angles, the times and the orbit."""
        corners = self.product.findall("productInfo/sceneInfo/sceneCornerCoord")
        is_projected = self._text("productVariantInfo/projection") == "MAP"
        georef = self.header.parent / "ANNOTATION/GEOREF.xml"
        has_grid = not is_projected and georef.is_file()
        if has_grid:
            grid = read_plain_xml(georef).findall("geolocationGrid/gridPoint")
        else:
            grid = []
        if is_projected:
            angles = self._plane(corners, handles[0])
        else:
            angles = _angles(grid, corners)
        constants = self.product.findall("calibration/calibrationConstant")
        factors = {
            x.findtext("polLayer", ""): float(read_numbers(x, "calFactor")[0])
            for x in constants
        }
        if min(factors.values(), default=1) <= 0:
            raise ValueError("a calFactor is not positive")
        if self._text("productVariantInfo/radiometricCorrection") == "NOTCALIBRATED":
            factors = {}
        units: dict[str, Callable[[Floats], Floats]] = {"beta0": np.ones_like}
        units |= {"sigma0": np.sin, "gamma0": np.tan} if angles else {}
        start, stop = (
            self._text(f"sceneInfo/{name}/timeUTC") for name in ("start", "stop")
        )
        if self._text("missionInfo/mission").startswith("PAZ"):
            title = "PAZ"
        else:
            title = self.title
        return Product(
            kind=f"{title} {self._text('productVariantInfo/productVariant')}".strip(),
            unit="amplitude",
            bands=self.bands,
            calibrations={
                unit: tuple(
                    ScaledCalibration(partial(_factors, angles, factors[x], function))
                    for x in self.bands
                )
                for unit, function in units.items()
                if factors.keys() >= {*self.bands}
            },
            calibration_source=(
                "calFactor and incidence angles at the ellipsoid, without subtraction"
                " of noise (NEBN)"
            ),
            acquired=start or None,
            finished=stop or None,
            pass_direction=self._text("missionInfo/orbitDirection").lower() or None,
            incidence=angles,
            motion=None if is_projected else self._motion(corners, start),
            tie_points=self.read_tie_points(grid, ("row", "col", "lon", "lat"), -0.5),
        )

    def _text(self, name: str) -> str:
        return self.product.findtext(f"productInfo/{name}", "").strip()

    def _plane(self, corners: Sequence[Element], file: Any) -> LineTable | None:
        """Fit the angles at the corners and the center of a scene by a plane in the image; None without coordinates."""
        points = [
            *corners,
            *self.product.findall("productInfo/sceneInfo/sceneCenterCoord"),
        ]
        if len(points) < 3 or file.crs is None:
            return None
        lat = [float(read_numbers(x, "lat")[0]) for x in points]
        lon = [float(read_numbers(x, "lon")[0]) for x in points]
        angles = [float(read_numbers(x, "incidenceAngle")[0]) for x in points]
        xy = transform("EPSG:4326", file.crs, lon, lat)
        rows, cols = AffineTransformer(file.transform).rowcol(
            *xy, op=lambda value: value
        )
        design = np.column_stack([np.ones(len(rows)), rows, cols])
        offset, down, along = np.linalg.lstsq(design, np.array(angles), rcond=None)[0]
        sides = np.array([0.0, file.width])
        lines = np.array([0.0, file.height])
        return LineTable(
            lines, [sides] * 2, [offset + down * line + along * sides for line in lines]
        )

    def _motion(self, corners: Sequence[Element], start: str) -> RadarMotion | None:
        """Return the times and slant ranges of the corners, and the speed of the orbit; None without one of them."""

        def seconds(corner: Element) -> float:
            time = datetime.fromisoformat(corner.findtext("azimuthTimeUTC", ""))
            return (time - datetime.fromisoformat(start)).total_seconds()

        try:
            times = _grid(corners, _CORNER, seconds)
            ranges = _grid(
                corners,
                _CORNER,
                lambda x: float(read_numbers(x, "rangeTime")[0]) * _LIGHT_SPEED / 2,
            )
            vectors = self.product.findall("platform/orbit/stateVec")
            speeds = [
                math.hypot(*(read_numbers(x, f"vel{axis}")[0] for axis in "XYZ"))
                for x in vectors
            ]
        except ValueError:
            return None
        looks_right = self._text("acquisitionInfo/lookDirection") != "LEFT"
        if times and ranges and speeds:
            return RadarMotion(times, ranges, float(np.mean(speeds)), looks_right)
        return None


_CORNER = ("refRow", "refColumn")


def _angles(grid: Sequence[Element], corners: Sequence[Element]) -> LineTable | None:
    """Return the incidence angles of the geolocation grid, else of the corners; None without either."""
    table = _grid(
        grid, ("row", "col"), lambda point: float(read_numbers(point, "inc")[0])
    )
    return table or _grid(
        corners,
        _CORNER,
        lambda corner: float(read_numbers(corner, "incidenceAngle")[0]),
    )


def _grid(
    points: Sequence[Element], names: tuple[str, str], value: Callable[[Element], float]
) -> LineTable | None:
    """Make a table of the values of points, whose rows and columns count from 1; None if they are not stated."""
    if not points or any(
        point.find(name) is None for point in points for name in names
    ):
        return None
    rows, cols = (
        [float(read_numbers(point, name)[0]) - 1 for point in points] for name in names
    )
    lines = [
        point.get("iaz") or row for point, row in zip(points, rows, strict=True)
    ]  # rows may be rounded
    return LineTable.from_points(
        zip(lines, rows, cols, map(value, points), strict=True)
    )


def _factors(
    angles: LineTable | None,
    factor: float,
    function: Callable[[Floats], Floats],
    *window: int,
) -> Floats:
    """Return calFactor times a function of the incidence angle."""
    if angles is None:
        theta = np.zeros(1)
    else:
        theta = np.radians(angles.window(*window))
    return np.asarray(factor * function(theta))
