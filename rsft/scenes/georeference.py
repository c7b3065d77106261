"""Transform pixels to coordinates and back: by geotransform, GCPs or RPCs.

Pixel coordinates follow GDAL: (0, 0) is the upper left corner of the first pixel, (0.5,
0.5) its center.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from threading import get_ident
from typing import Any

import numpy as np
import shapely
from numpy.typing import ArrayLike
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import ProjError
from rasterio._err import CPLE_BaseError
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.rpc import RPC
from rasterio.transform import (
    Affine,
    AffineTransformer,
    GCPTransformer,
    RPCTransformer,
)
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from rsft.data.imagery.products.elements import TiePoint
from rsft.scenes.control_points import describe_outliers
from rsft.types import LONLAT, Floats, Spacing

MAX_SPLINE_POINTS = 2000
"""Ground control points of a spline, which takes 6 s then: its time grows with their
cube, and 10,000 would take half an hour."""
_EARTH = Geod(ellps="WGS84")
_MAX_LON = 540
"""Largest longitude in degrees. A scene may begin at 180 and go around the Earth."""
WORLD = shapely.box(-180, -90, 180, 90)
"""All longitudes and latitudes, in degrees."""
_MIN_PIXEL_AREA = 1e-16  # in units of the coordinate system: 10 nm, or 1 mm in degrees
_MAX_DIFFERENCE = 0.5  # pixels, after a transformation to coordinates and back
_STEP = 8  # pixel spacing is measured over this number of pixels to each side


@dataclass(frozen=True, eq=False)
class Georeference:
    """Transforms pixel coordinates to longitude and latitude (EPSG:4326) and back.

    One of `affine`, `points` and `rpcs` is given. All values are plain, so that another
    process can send them.

    Attributes:
        description: source of the georeference.
        crs_text: coordinate system as WKT.
        affine: the six coefficients of a geotransform: column and row to x, to y.
        points: row, column, x and y of ground control points, between which a
            thin-plate spline goes.
        rpcs: rational polynomial coefficients by their names, at height 0 m above the
            ellipsoid.
        middle_lon: longitude in the middle of the scene as `crs` counts it, which may
            be outside of -180 to 180 degrees; None if `crs` is not in degrees.
    """

    description: str
    crs_text: str
    affine: tuple[float, ...] = ()
    points: tuple[TiePoint, ...] = ()
    rpcs: Mapping[str, Any] = field(default_factory=dict)
    middle_lon: float | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the transformations, which are made again."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @cached_property
    def transformer(self) -> Any:
        """Rasterio's transformer between pixels and `crs`."""
        if self.affine:
            return AffineTransformer(Affine(*self.affine))
        if self.points:
            points = [GroundControlPoint(*point) for point in self.points]
            return GCPTransformer(points, tps=True)
        return RPCTransformer(RPC(**self.rpcs))

    @cached_property
    def crs_to_lonlat(self) -> Transformer:
        """Transforms `crs` to longitude and latitude."""
        return _read_crs_to_lonlat(self.crs_text, get_ident())

    @property
    def crs(self) -> CRS:
        """Source coordinate system of `crs_to_lonlat`."""
        assert self.crs_to_lonlat.source_crs
        return self.crs_to_lonlat.source_crs

    def pixels_to_lonlat(self, rows: ArrayLike, cols: ArrayLike) -> Floats:
        """Transform rows and columns (N,) to longitude and latitude.

        Returns:
            Longitude and latitude (N, 2) in degrees; not finite for a pixel without
            coordinates.
        """
        x, y = self.transformer.xy(
            np.atleast_1d(rows), np.atleast_1d(cols), offset="ul"
        )
        lon, lat = self.crs_to_lonlat.transform(x, y)
        beyond = (np.abs(lon) > 180) & (np.abs(lon) <= _MAX_LON)
        lon[beyond] = (lon[beyond] + 180) % 360 - 180
        return np.column_stack([lon, lat])

    def lonlat_to_pixels(self, lon: ArrayLike, lat: ArrayLike) -> Floats:
        """Transform longitude and latitude (N,) in degrees to pixels.

        Returns:
            Row and column (N, 2), which may lie outside of the image; not finite where
            the transformation is undefined.
        """
        x, y = self.crs_to_lonlat.transform(
            np.atleast_1d(lon), np.atleast_1d(lat), direction="INVERSE"
        )
        if self.middle_lon is not None:
            with np.errstate(invalid="ignore"):  # not finite
                x = x + 360 * np.round((self.middle_lon - x) / 360)
        pixels = np.full((len(x), 2), np.nan)
        valid = np.isfinite(x) & np.isfinite(y)
        if valid.any():
            pixels[valid] = np.column_stack(
                self.transformer.rowcol(x[valid], y[valid], op=lambda value: value)
            )
        return pixels

    def spacing_at(self, row: float, col: float) -> Spacing:
        """Return the pixel spacing in meters around a pixel on the ellipsoid.

        The first number is along the column, the second one along the row.
        """
        rows = [row - _STEP, row + _STEP, row, row]
        cols = [col, col, col - _STEP, col + _STEP]
        lon, lat = self.pixels_to_lonlat(rows, cols).T
        _, _, meters = _EARTH.inv(lon[::2], lat[::2], lon[1::2], lat[1::2])
        return float(meters[0]) / (2 * _STEP), float(meters[1]) / (2 * _STEP)

    def direction(self, start: ArrayLike, end: ArrayLike) -> float:
        """Return the direction from one pixel (row, column) to another one.

        It is in degrees, clockwise from north.
        """
        lon, lat = self.pixels_to_lonlat(*np.array([start, end], float).T).T
        return float(_EARTH.inv(lon[0], lat[0], lon[1], lat[1])[0])

    def outline_polygons(self, corners: Floats) -> list[BaseGeometry | None]:
        """Convert outlines in pixels to polygons in degrees.

        Polygons across the antimeridian are split.

        Args:
            corners: (N, K, 2), K corners as row and column.

        Returns:
            N polygons; None if a corner has no coordinates, the polygon is not valid,
            or a pole lies inside.
        """
        return [
            _polygon(ring)
            for ring in self.pixels_to_lonlat(*corners.reshape(-1, 2).T).reshape(
                corners.shape
            )
        ]


def read_georeference(
    file: Any, tie_points: Sequence[TiePoint] = ()
) -> Georeference | None:
    """Read the georeference of an open rasterio data set.

    It is the geotransform, else GCPs, else tie points, else RPCs.

    Args:
        file: the data set.
        tie_points: row, column, longitude and latitude of points that its product
            states.

    Returns:
        The georeference; None if the file has none, or if it cannot be transformed to
        degrees.
    """
    points, points_crs = file.gcps
    try:
        transform = file.transform
        has_area = abs(transform.determinant) > _MIN_PIXEL_AREA
        if file.crs is not None and has_area and not transform.is_identity:
            georeference = _from_transform(file)
        elif points and points_crs is not None:
            georeference = _from_points(points, _crs(points_crs))
        elif tie_points:
            georeference = _from_points(
                [GroundControlPoint(*point) for point in tie_points], CRS(LONLAT)
            )
        elif file.rpcs is not None:
            description = "RPCs, at height 0 m above the ellipsoid"
            georeference = Georeference(
                description, CRS(LONLAT).to_wkt(), rpcs=file.rpcs.to_dict()
            )
        else:
            return None
        lon, lat = georeference.pixels_to_lonlat(file.height / 2, file.width / 2)[0]
        # not so with a wrong coordinate system, or not finite
        is_on_earth = abs(lon) <= 180 and abs(lat) <= 90
        if not is_on_earth or georeference.crs.is_geocentric:
            return None
        is_affine = isinstance(georeference.transformer, AffineTransformer)
        if is_affine or _is_reversible(georeference, file):
            return georeference
    except (ProjError, RasterioError, CPLE_BaseError, ValueError):
        return None
    return None


@contextmanager
def ignore_georeference_warnings() -> Iterator[None]:
    """Ignore rasterio's warnings about files without georeference.

    The notes of a job report them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def rectangle_corners(top: float, left: float, bottom: float, right: float) -> Floats:
    """Return the corners of a rectangle, beginning at the upper left.

    They are counterclockwise on a map with north up.

    Returns:
        Row and column (4, 2).
    """
    return np.array(
        [[top, left], [bottom, left], [bottom, right], [top, right]], np.float64
    )


@lru_cache
def _read_crs_to_lonlat(text: str, thread: int) -> Transformer:
    """Return the transformer from a WKT, of which each thread needs its own."""
    return open_lonlat(CRS.from_wkt(text))


def _from_transform(file: Any) -> Georeference:
    crs = _crs(file.crs)
    middle_lon = None
    if crs.is_geographic and crs.axis_info[0].unit_name == "degree":
        middle_lon = (file.transform @ (file.width / 2, file.height / 2))[0]
    return Georeference(
        f"geotransform, {_name(file.crs)}",
        crs.to_wkt(),
        affine=tuple(file.transform)[:6],
        middle_lon=middle_lon,
    )


def _from_points(points: list[GroundControlPoint], crs: CRS) -> Georeference:
    """Fit a thin-plate spline through ground control points.

    It is in meters around one of them.

    A fit in degrees is worse. For points of a Sentinel-1 EW scene at 86 degrees north
    that were not used in the fit, the largest error is 0.3 m (median 0.05 m). It is 27
    m with a polynomial and 228 m with a spline in degrees.

    Of more than `MAX_SPLINE_POINTS`, as many are chosen at random.
    """
    description = f"{len(points)} ground control points, {_name(crs)}"
    if len(points) > MAX_SPLINE_POINTS:
        description = f"{MAX_SPLINE_POINTS} of {description}"
        order = np.random.default_rng(0).permutation(len(points))
        points = [points[index] for index in order[:MAX_SPLINE_POINTS]]
    lon, lat = open_lonlat(crs).transform(
        [point.x for point in points], [point.y for point in points]
    )
    # a wrong point is seldom the median; a mean fails at the antimeridian
    middle = int(np.argsort(lat)[len(points) // 2])
    local = CRS.from_proj4(
        f"+proj=aeqd +lat_0={lat[middle]!r} +lon_0={lon[middle]!r} +ellps=WGS84"
    )
    to_local = Transformer.from_crs(LONLAT, local, always_xy=True)
    meters = np.column_stack(to_local.transform(lon, lat))
    local_points = [
        (float(point.row), float(point.col), x, y)
        for point, (x, y) in zip(points, meters.tolist(), strict=True)
    ]
    outliers = describe_outliers(points, meters)
    if outliers:
        description += f"; check them: {outliers}"
    return Georeference(description, local.to_wkt(), points=tuple(local_points))


def _is_reversible(georeference: Georeference, file: Any) -> bool:
    """Return whether the coordinates of pixels lead back to them.

    It is not so if all control points lie on one line.
    """
    rows = file.height * np.array([0.5, 0.25, 0.25])
    cols = file.width * np.array([0.5, 0.25, 0.75])
    lonlat = georeference.pixels_to_lonlat(rows, cols)
    pixels = georeference.lonlat_to_pixels(*lonlat.T)
    distance = np.abs(pixels - np.column_stack([rows, cols]))
    return bool((distance <= _MAX_DIFFERENCE).all())


def _crs(crs: Any) -> CRS:
    return CRS.from_user_input(crs).to_2d()


def open_lonlat(crs: CRS | str) -> Transformer:
    """Return the transformation of a coordinate system to longitude and latitude."""
    return Transformer.from_crs(crs, LONLAT, always_xy=True)


@lru_cache
def _name(crs: Any) -> str:
    crs = CRS.from_user_input(crs)
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else crs.name


def _polygon(ring: Floats) -> BaseGeometry | None:
    lon, lat = ring.T
    if not np.isfinite(ring).all() or np.abs(lat).max() > 90 or np.abs(lon).max() > 180:
        return None
    # longitude differences of neighbors, along the shorter way
    steps = (np.diff(lon, append=lon[0]) + 180) % 360 - 180
    if abs(steps.sum()) > 1:  # the ring runs around a pole
        return None
    unwrapped = lon[0] + np.concatenate([[0], steps[:-1].cumsum()])
    polygon = shapely.Polygon(np.column_stack([unwrapped, lat]))
    if not polygon.is_valid or not polygon.area:
        return None
    west, _, east, _ = polygon.bounds
    if west >= -180 and east <= 180:
        return polygon
    parts = [
        translate(polygon, offset).intersection(WORLD) for offset in (-360, 0, 360)
    ]
    return shapely.MultiPolygon([part for part in parts if part.area])
