"""Read TerraSAR-X, TanDEM-X and PAZ: calibration, incidence angles, times and orbit.

Sources: DLR, "TerraSAR-X Level 1b Product Format Specification" (TX-GS-DD-3307), and
Airbus, "Radiometric Calibration of TerraSAR-X Data" (TSXX-ITD-TN-0049): beta0 =
calFactor * DN^2, sigma0 = (calFactor * DN^2 - NEBN) * sin theta.

Left out: the noise NEBN is not subtracted. theta is the incidence angle at the
ellipsoid, not at the terrain (GIM.tif): of the geolocation grid (GEOREF.xml) or the
corners of the scene in radar geometry, and of a plane through the corners and the
center in a map projection.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from rasterio.transform import AffineTransformer
from rasterio.warp import transform

from rsft.data.imagery.products.calibration import ScaledCalibration
from rsft.data.imagery.products.elements import (
    LIGHT_SPEED,
    read_mean_speed,
    read_number,
    read_seconds,
    read_text,
    read_tie_points,
)
from rsft.data.imagery.products.headers import HeaderProduct, Images, read_header_xml
from rsft.data.imagery.products.line_table import LineTable
from rsft.data.imagery.products.product import (
    Handles,
    Product,
    RadarMotion,
)
from rsft.types import Floats

_UNITS: dict[str, Callable[[Floats], Floats]] = {
    "beta0": np.ones_like,
    "sigma0": np.sin,
    "gamma0": np.tan,
}
"""What calFactor * DN^2 is multiplied by, as a function of the incidence angle."""
_CORNER = ("refRow", "refColumn")


class TerraSarX(HeaderProduct):
    """A product of TerraSAR-X, TanDEM-X or PAZ.

    It is found by its folder, its XML file, or one of its images.

    Table:
        product: TerraSAR-X, TanDEM-X, PAZ: MGD, GEC, EEC
        units: amplitude, sigma0, gamma0, beta0
        polarization from: `polLayer`
        backscatter: `calFactor` DN² sin θ (sigma0), tan θ (gamma0), 1 (beta0)
        driver: GTiff
        source: DLR, TX-GS-DD-3307; Airbus, TSXX-ITD-TN-0049
    """

    name = "terrasar-x"
    title = "TerraSAR-X"
    headers = ("*.xml",)
    marker = b"<level1Product"
    folders = ("IMAGEDATA",)
    detected = "a detected product (MGD, GEC or EEC)"
    product: Element

    def load(self) -> Images | None:
        """Read the header.

        COSAR files are left out: GDAL reads their complex pixels.
        """
        self.product = read_header_xml(self.header)
        if self._text("imageDataInfo/imageDataType") == "COMPLEX":
            self.complex_kind = "SSC"
        images = {}
        for image in self.product.iterfind("productComponents/imageData"):
            folder = image.findtext("file/location/path", "")
            name = image.findtext("file/location/filename", "")
            if not name.endswith(".cos"):
                file = self.header.parent / folder / name
                images[image.findtext("polLayer", "")] = file
        return images

    def describe(self, handles: Handles) -> Product:
        """Read the calibration, the incidence angles, the times and the orbit."""
        corners = self.product.findall("productInfo/sceneInfo/sceneCornerCoord")
        start = self._text("sceneInfo/start/timeUTC")
        grid = []
        motion = None
        if self._text("productVariantInfo/projection") == "MAP":
            angles = self._plane(corners, handles[0])
        else:
            georef = self.header.parent / "ANNOTATION/GEOREF.xml"
            if georef.is_file():
                grid = read_header_xml(georef).findall("geolocationGrid/gridPoint")
            angles = _grid(grid, ("row", "col"), partial(read_number, name="inc"))
            if angles is None:
                angles = _grid(
                    corners, _CORNER, partial(read_number, name="incidenceAngle")
                )
            motion = self._motion(corners, start)
        is_paz = self._text("missionInfo/mission").startswith("PAZ")
        title = "PAZ" if is_paz else self.title
        return Product(
            kind=f"{title} {self._text('productVariantInfo/productVariant')}".strip(),
            unit="amplitude",
            bands=self.bands,
            calibrations=self._calibrations(angles),
            calibration_source=(
                "calFactor and incidence angles at the ellipsoid, without subtraction"
                " of noise (NEBN)"
            ),
            acquired=start,
            finished=self._text("sceneInfo/stop/timeUTC"),
            pass_direction=self._text("missionInfo/orbitDirection").lower(),
            incidence=angles,
            motion=motion,
            tie_points=read_tie_points(grid, ("row", "col", "lon", "lat"), -0.5),
        )

    def _text(self, name: str) -> str:
        return read_text(self.product, f"productInfo/{name}")

    def _calibrations(
        self, angles: LineTable | None
    ) -> dict[str, tuple[ScaledCalibration, ...]]:
        """Return the calibrations; without angles, that to beta0 alone."""
        factors = {}
        for constant in self.product.iterfind("calibration/calibrationConstant"):
            factor = read_number(constant, "calFactor")
            if factor <= 0:
                raise ValueError("a calFactor is not positive")
            factors[constant.findtext("polLayer", "")] = factor
        variant = self._text("productVariantInfo/radiometricCorrection")
        if variant == "NOTCALIBRATED" or not factors.keys() >= {*self.bands}:
            return {}
        calibrations = {}
        for unit, function in _UNITS.items():
            if angles or unit == "beta0":
                scales = [
                    partial(_scale, angles, factors[x], function) for x in self.bands
                ]
                calibrations[unit] = tuple(map(ScaledCalibration, scales))
        return calibrations

    def _plane(self, corners: Sequence[Element], file: Any) -> LineTable | None:
        """Fit the angles at the corners and the center of a scene by a plane.

        Returns:
            The plane in the image; None without coordinates.
        """
        center = self.product.findall("productInfo/sceneInfo/sceneCenterCoord")
        points = [*corners, *center]
        if len(points) < 3 or file.crs is None:
            return None
        lat = [read_number(point, "lat") for point in points]
        lon = [read_number(point, "lon") for point in points]
        angles = np.array([read_number(point, "incidenceAngle") for point in points])
        x, y = transform("EPSG:4326", file.crs, lon, lat)
        rows, cols = AffineTransformer(file.transform).rowcol(x, y, op=lambda x: x)
        design = np.column_stack([np.ones(len(rows)), rows, cols])
        offset, down, along = np.linalg.lstsq(design, angles, rcond=None)[0]
        sides = np.array([0.0, file.width])
        lines = np.array([0.0, file.height])
        values = [offset + down * line + along * sides for line in lines]
        return LineTable(lines, [sides] * 2, values)

    def _motion(self, corners: Sequence[Element], start: str) -> RadarMotion | None:
        """Return the times and slant ranges of the corners, and the speed of the orbit.

        Returns:
            The motion; None without one of them.
        """
        try:
            times = _grid(
                corners, _CORNER, lambda x: read_seconds(x, "azimuthTimeUTC", start)
            )
            ranges = _grid(
                corners,
                _CORNER,
                lambda x: read_number(x, "rangeTime") * LIGHT_SPEED / 2,
            )
            speed = read_mean_speed(
                self.product.iterfind("platform/orbit/stateVec"),
                ("velX", "velY", "velZ"),
            )
        except ValueError:
            return None
        if times and ranges and speed:
            looks_right = self._text("acquisitionInfo/lookDirection") != "LEFT"
            return RadarMotion(times, ranges, speed, looks_right)
        return None


def _grid(
    points: Sequence[Element], names: tuple[str, str], value: Callable[[Element], float]
) -> LineTable | None:
    """Make a table of the values of points, whose rows and columns count from 1.

    Returns:
        The table; None if the points do not state their rows and columns.
    """
    entries = []
    for point in points:
        if any(point.find(name) is None for name in names):
            return None
        row, col = [read_number(point, name) - 1 for name in names]
        line = point.get("iaz") or row  # rows may be rounded
        entries.append((line, row, col, value(point)))
    return LineTable.from_points(entries) if entries else None


def _scale(
    angles: LineTable | None,
    factor: float,
    function: Callable[[Floats], Floats],
    *window: int,
) -> Floats:
    """Return calFactor times a function of the incidence angle."""
    theta = np.zeros(1)
    if angles is not None:
        theta = np.radians(angles.window(*window))
    return np.asarray(factor * function(theta))
