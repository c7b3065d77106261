"""Inputs of a stranger that name a secret outside of their folder, or a server. Each
builder fills one folder."""

from __future__ import annotations

import base64
import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import geopandas
import numpy as np
import pyarrow.parquet as pq
import rasterio
import shapely

WORD = "TOPSECRET"
HEIGHT = 600
WIDTH = 500
TEXT = (f"{WORD}-0123456789-abcdefghijklmnopqrstuvwxyz-".encode() * 9000)[
    : HEIGHT * WIDTH
]
ROW = np.frombuffer(TEXT[:WIDTH], np.uint8)
CORPUS = Path(__file__).parents[1] / "fuzz/corpus/scenes_hdf5/a.h5"


@dataclass(frozen=True)
class Place:
    """Where a carrier is built, and what it names."""

    folder: Path
    secret: Path
    url: str

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    @property
    def image(self) -> Path:
        """A TIFF with the secret."""
        return self.secret.with_name("secret.tif")

    @property
    def layer(self) -> Path:
        """A GeoPackage with the secret."""
        return self.secret.with_name("secret.gpkg")

    @property
    def honest(self) -> Path:
        """A folder with honest inputs."""
        return self.secret.parent.with_name("given")


def write_secrets(folder: Path) -> Path:
    """Write the secret as text, as an image whose rows are alike, and as a vector
    layer; return the first one."""
    folder.mkdir()
    (folder / "secret").write_bytes(TEXT)
    write_image(folder / "secret.tif", np.tile(ROW, (HEIGHT, 1)))
    shapes = shapely.points([[30.0, 30.0]])
    geopandas.GeoDataFrame({"note": [WORD]}, geometry=shapes).to_file(
        folder / "secret.gpkg", layer="s"
    )
    return folder / "secret"


def write_image(path: Path, pixels: np.ndarray, **tags: str) -> Path:
    with rasterio.open(
        path, "w", "GTiff", pixels.shape[1], pixels.shape[0], 1, dtype="uint8"
    ) as file:
        file.write(pixels, 1)
        if tags:
            file.update_tags(ns="OVERVIEWS", **tags)
    return path


def honest_image(path: Path, **tags: str) -> Path:
    """Write a scene of noise."""
    return write_image(
        path,
        np.random.default_rng(0).integers(1, 255, (HEIGHT, WIDTH), np.uint8),
        **tags,
    )


def raw_vrt(place: Place, scale: int = 1) -> str:
    source = f'<SourceFilename relativeToVRT="0">{place.secret}</SourceFilename>'
    steps = "<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>0</LineOffset>"
    return _vrt(
        '<VRTRasterBand dataType="Byte" band="1"'
        f' subClass="VRTRawRasterBand">{source}{steps}',
        scale,
    )


def simple_vrt(source: str, scale: int = 1) -> str:
    name = (
        "<SimpleSource><SourceFilename"
        f' relativeToVRT="0">{source}</SourceFilename><SourceBand>1</SourceBand>'
    )
    return _vrt(f'<VRTRasterBand dataType="Byte" band="1">{name}</SimpleSource>', scale)


def _vrt(band: str, scale: int) -> str:
    size = f'rasterXSize="{WIDTH // scale}" rasterYSize="{HEIGHT // scale}"'
    return f"<VRTDataset {size}>{band}</VRTRasterBand></VRTDataset>"


Carrier = Callable[[Place], Path]
SCENES: dict[str, Carrier] = {}
LAYERS: dict[str, Carrier] = {}
CHIPS: dict[str, Carrier] = {}


def carrier(kind: dict[str, Carrier]) -> Callable[[Carrier], Carrier]:
    def register(build: Carrier) -> Carrier:
        kind[build.__name__] = build
        return build

    return register


def texts(
    kind: dict[str, Carrier], **contents: tuple[str, Callable[[Place], str]]
) -> None:
    """Register carriers that are one file of text."""
    for name, (file, content) in contents.items():
        kind[name] = lambda place, file=file, content=content: place.write(
            file, content(place)
        )


def stac_item(href: str) -> str:
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "properties": {},
        "geometry": None,
    }
    return json.dumps(
        item
        | {"assets": {"a": {"href": href, "roles": ["data"], "type": "image/tiff"}}}
    )


texts(
    SCENES,
    vrt_raw=("a.tif", raw_vrt),
    vrt_of_an_image=("a.tif", lambda place: simple_vrt(str(place.image))),
    vrt_of_a_server=("a.tif", lambda place: simple_vrt(f"/vsicurl/{place.url}")),
    vrt_of_a_bucket=("a.jp2", lambda place: simple_vrt("/vsis3/bucket/a.tif")),
    vrt_with_its_suffix=("a.vrt", raw_vrt),
    vrt_with_its_suffix_of_an_image=(
        "a.vrt",
        lambda place: simple_vrt(str(place.image)),
    ),
    tile_index=(
        "a.tif",
        lambda place: (
            f"<GDALTileIndexDataset><IndexDataset>/vsicurl/{place.url}</IndexDataset></GDALTileIndexDataset>"
        ),
    ),
    wms=(
        "a.tif",
        lambda place: (
            "<GDAL_WMS><Service"
            f" name='TMS'><ServerUrl>{place.url}</ServerUrl></Service><DataWindow>"
            "<UpperLeftX>0</UpperLeftX><UpperLeftY>0</UpperLeftY><LowerRightX>9</LowerRightX><LowerRightY>9</LowerRightY>"
            "<SizeX>600</SizeX><SizeY>600</SizeY></DataWindow><BandsCount>1</BandsCount></GDAL_WMS>"
        ),
    ),
    wms_capabilities=(
        "a.tif",
        lambda place: (
            f"<WMS_Capabilities><Capability><Request><GetMap>{place.url}</GetMap></Request></Capability>"
            "</WMS_Capabilities>"
        ),
    ),
    wmts=(
        "a.tif",
        lambda place: (
            f"<GDAL_WMTS><GetCapabilitiesUrl>{place.url}</GetCapabilitiesUrl></GDAL_WMTS>"
        ),
    ),
    wcs=(
        "a.tif",
        lambda place: (
            f"<WCS_GDAL><ServiceURL>{place.url}?</ServiceURL><Version>2.0.1</Version>"
            "<CoverageName>a</CoverageName></WCS_GDAL>"
        ),
    ),
    kml_overlay=(
        "a.tif",
        lambda place: (
            "<kml"
            f" xmlns='http://earth.google.com/kml/2.2'><Document><Region/><NetworkLink><Region/><Link><href>{place.image}</href></Link></NetworkLink></Document></kml>"
        ),
    ),
    mrf=(
        "a.tif",
        lambda place: (
            "<MRF_META><Raster><Size x='500' y='600' c='1'/><PageSize x='500' y='600'"
            " c='1'/>"
            f"<Compression>NONE</Compression><DataFile>{place.secret}</DataFile></Raster></MRF_META>"
        ),
    ),
    pds=(
        "a.tif",
        lambda place: (
            f'PDS_VERSION_ID = PDS3\r\n^IMAGE = "{place.secret}"\r\nOBJECT ='
            " IMAGE\r\nLINES = 600\r\nLINE_SAMPLES = 500\r\nSAMPLE_TYPE ="
            " UNSIGNED_INTEGER\r\nSAMPLE_BITS = 8\r\nEND_OBJECT = IMAGE\r\nEND\r\n"
        ),
    ),
    stac_tiles=(
        "a.json",
        lambda place: json.dumps(
            {
                "stac_version": "1.0.0",
                "type": "FeatureCollection",
                "features": [],
                "href": place.url,
            }
        ),
    ),
)


@carrier(SCENES)
def tile_index_in_a_geopackage(place: Place) -> Path:
    path = place.folder / "a.gti.gpkg"
    frame = geopandas.GeoDataFrame(
        {"location": [str(place.image)]},
        geometry=[shapely.box(0, -HEIGHT, WIDTH, 0)],
        crs="EPSG:32633",
    )
    frame.to_file(path)
    return path


def beside(
    suffix: str,
    content: Callable[[Place], str],
    between: bool = False,
    archive: bool = False,
) -> Carrier:
    """Return a carrier that is a file beside an honest scene; `between` puts an honest
    overview between them."""

    def build(place: Place) -> Path:
        path = honest_image(place.folder / "a.tif")
        if between:
            write_image(
                place.folder / "a.tif.ovr",
                np.full((HEIGHT // 2, WIDTH // 2), 7, np.uint8),
            )
        place.write(f"a.tif{suffix}", content(place))
        if not archive:
            return path
        with zipfile.ZipFile(place.folder / "a.zip", "w") as file:
            for member in sorted(place.folder.glob("a.tif*")):
                file.write(member, member.name)
                member.unlink()
        return Path(f"/vsizip/{place.folder}/a.zip/a.tif")

    return build


def overview_of(source: Callable[[Place], str]) -> Callable[[Place], str]:
    """Return a .aux.xml that names a file as the overviews."""
    start = '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">'
    return lambda place: f"{start}{source(place)}</MDI></Metadata></PAMDataset>"


SCENES |= {
    "overview": beside(".ovr", lambda place: raw_vrt(place, 2)),
    "overview_of_an_overview": beside(
        ".ovr.ovr", lambda place: raw_vrt(place, 4), between=True
    ),
    "overview_in_an_archive": beside(
        ".ovr", lambda place: raw_vrt(place, 2), archive=True
    ),
    "overview_of_a_server": beside(
        ".ovr", lambda place: simple_vrt(f"/vsicurl/{place.url}", 2)
    ),
    "overview_of_a_server_in_an_archive": beside(
        ".ovr", lambda place: simple_vrt(f"/vsicurl/{place.url}", 2), archive=True
    ),
    "mask": beside(".msk", lambda place: raw_vrt(place)),
    "mask_in_an_archive": beside(".msk", lambda place: raw_vrt(place), archive=True),
    "mask_of_a_server": beside(
        ".msk", lambda place: simple_vrt(f"/vsicurl/{place.url}")
    ),
    "aux_xml": beside(".aux.xml", overview_of(lambda place: str(place.image))),
    "aux_xml_in_an_archive": beside(
        ".aux.xml", overview_of(lambda place: str(place.image)), archive=True
    ),
    "aux_xml_of_a_server": beside(
        ".aux.xml", overview_of(lambda place: f"/vsicurl/{place.url}")
    ),
    "qml": beside(
        ".qml",
        lambda place: (
            f"<qgis><layer source='{place.image}' href='{place.url}'/></qgis>"
        ),
    ),
}


@carrier(SCENES)
def tag_of_overviews(place: Place) -> Path:
    return honest_image(place.folder / "a.tif", OVERVIEW_FILE=str(place.image))


@carrier(SCENES)
def link_in_an_archive(place: Place) -> Path:
    info = zipfile.ZipInfo("a.tif")
    info.create_system = 3
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(place.folder / "a.zip", "w") as file:
        file.writestr(info, str(place.image))
    return Path(f"/vsizip/{place.folder}/a.zip/a.tif")


@carrier(SCENES)
def vrt_of_an_image_after_a_blank(place: Place) -> Path:
    decoy = Path(f"{place.folder}/ {place.image}")
    decoy.parent.mkdir(parents=True)
    honest_image(decoy)
    return place.write(
        "a.vrt",
        simple_vrt(f" {place.image}").replace('relativeToVRT="0"', 'relativeToVRT="1"'),
    )


@carrier(SCENES)
def raw_values_through_a_link(place: Place) -> Path:
    header = (
        f"ENVI\nsamples = {WIDTH}\nlines = {HEIGHT}\nbands = 1\nfile type = ENVI"
        " Standard\n"
    )
    place.write(
        "a.hdr", f"{header}header offset = 0\ndata type = 1\ninterleave = bsq\n"
    )
    (place.folder / "a.img").symlink_to(place.secret)
    return place.folder / "a.img"


def hdf5(name: str, old: bytes = b"", new: bytes = b"") -> Carrier:
    """Return a carrier of the corpus, which names b.h5 or /etc/hostname; `new` is as
    long as `old`."""

    def build(place: Place) -> Path:
        (place.folder / "b.h5").symlink_to(place.secret)
        (place.folder / "\x01.h5").symlink_to(place.secret)
        return place.write("a.h5", (CORPUS / name).read_bytes().replace(old, new))

    return build


SCENES |= {
    "hdf5_external_storage": hdf5(
        "external_storage_earliest", b"/etc/hostname", b"../far/secret"
    ),
    "hdf5_external_storage_latest": hdf5(
        "external_storage_latest", b"/etc/hostname", b"../far/secret"
    ),
    "hdf5_external_link": hdf5("external_link_latest"),
    "hdf5_external_link_that_does_not_print": hdf5(
        "external_link_latest", b"b.h5", b"\x01.h5"
    ),
    "hdf5_virtual_dataset": hdf5("virtual_dataset_latest"),
}

ITEMS = {
    "item_of_a_server": lambda place: place.write("a.json", stac_item(place.url)),
    "item_of_a_network_name": lambda place: place.write(
        "a.json", stac_item(f"/vsicurl/{place.url}")
    ),
    "item_of_a_file": lambda place: place.write("a.json", stac_item(str(place.image))),
    "item_of_a_file_address": lambda place: place.write(
        "a.json", stac_item(f"file://{place.image}")
    ),
    "item_of_a_file_above": lambda place: place.write(
        "a.json", stac_item("../far/secret.tif")
    ),
}
"""STAC items, which a pattern matches."""

texts(
    CHIPS,
    chip_vrt=("a.tif", raw_vrt),
    chip_vrt_of_a_server=("a.png", lambda place: simple_vrt(f"/vsicurl/{place.url}")),
    chip_svg=(
        "a.png",
        lambda place: (
            f"<svg xmlns='http://www.w3.org/2000/svg'><image href='{place.url}'/></svg>"
        ),
    ),
)


@carrier(CHIPS)
def chip_with_an_overview(place: Place) -> Path:
    rng = np.random.default_rng(0)
    write_image(
        place.folder / "a.tif",
        rng.integers(1, 255, (64, 64), np.uint8),
        OVERVIEW_FILE=str(place.image),
    )
    place.write("a.tif.ovr", raw_vrt(place, 50))
    place.write(
        "a.tif.aux.xml", overview_of(lambda place: f"/vsicurl/{place.url}")(place)
    )
    return place.folder / "a.tif"


def build_all(folder: Path, secret: Path, url: str) -> dict[str, tuple[str, Path]]:
    """Build every carrier in a folder of its own.

    Returns:
        Kind ("scene", "item", "layer" or "chip") and path by name.
    """
    built = {}
    for kind, builders in {
        "scene": SCENES,
        "item": ITEMS,
        "layer": LAYERS,
        "chip": CHIPS,
    }.items():
        for name, build in builders.items():
            (folder / name).mkdir()
            built[name] = kind, build(Place(folder / name, secret, url))
    return built


def contains_secret(folder: Path) -> list[str]:
    """Return the outputs that contain the secret: its word, its bytes as pixels, or a
    picture whose rows are alike."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        data = path.read_bytes()
        images = (
            [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)]
            if path.suffix in (".tif", ".png")
            else []
        )
        if path.suffix == ".parquet":  # its texts are compressed
            data = str(pq.read_table(path).to_pylist()).encode()
        for text in re.findall(rb"data:image/\w+;base64,([A-Za-z0-9+/=]+)", data):
            images.append(
                cv2.imdecode(
                    np.frombuffer(base64.b64decode(text), np.uint8),
                    cv2.IMREAD_GRAYSCALE,
                )
            )
        alike = any(
            x is not None and x.std(axis=0).max() < 8 and x.std() > 8 for x in images
        )
        if (
            WORD.encode() in data
            or alike
            or any(TEXT[:64] in (b"" if x is None else x.tobytes()) for x in images)
        ):
            found.append(str(path.relative_to(folder)))
    return found
