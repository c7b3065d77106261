"""More inputs of a stranger: formats that hide names in blanks, links and syntax.

Each builder fills one folder, as those of `carriers`. A carrier whose path is relative
is read from its folder.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import rasterio
import shapely

from tests.security.carriers import (
    HEIGHT,
    LAYERS,
    ROW,
    SCENES,
    TEXT,
    WIDTH,
    Carrier,
    Place,
    beside,
    carrier,
    hdf5,
    honest_image,
    overview_of,
    raw_vrt,
    simple_vrt,
    texts,
    write_image,
)
from tests.security.layer_carriers import geopackage

_RECTANGLE = f'xOff="0" yOff="0" xSize="{WIDTH}" ySize="{HEIGHT}"'


def decoy(place: Place, name: str) -> None:
    """Write an honest image where a program that reads the name as it is looks."""
    path = Path(f"{place.folder}/{name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    honest_image(path)


def vrt_source(place: Place, text: str, relative: int = 0) -> str:
    """Return a VRT whose only image has a name that is written in another way."""
    return simple_vrt("NAME").replace(
        '<SourceFilename relativeToVRT="0">NAME</SourceFilename>',
        f'<SourceFilename relativeToVRT="{relative}">{text}</SourceFilename>',
    )


def named(pattern: str, relative: int = 0) -> Carrier:
    """Return a carrier that is a VRT; the pattern writes the name of the secret."""

    def build(place: Place) -> Path:
        text = pattern.format(secret=place.image)
        decoy(place, "b.tif")
        decoy(place, text.replace("&#32;", " ").replace("&#10;", "\n"))
        return place.write("a.vrt", vrt_source(place, text, relative))

    return build


SCENES |= {
    "vrt_name_after_a_line_feed": named("\n{secret}", 1),
    "vrt_name_after_an_entity": named("&#32;{secret}", 1),
    "vrt_name_before_a_line_feed": named("{secret}&#10;"),
    "vrt_name_in_cdata": named("<![CDATA[{secret}]]>"),
    "vrt_name_around_a_comment": named("{secret}<!-- a -->"),
    "vrt_name_in_an_element": named("<b/>{secret}", 1),
    "vrt_name_of_a_directory": named("GTIFF_DIR:1:{secret}"),
    "vrt_name_of_a_stream": named("/vsisubfile/0_999999,{secret}"),
    "vrt_name_of_a_link": named("/vsicrypt/key=a,file={secret}"),
}


def in_band(text: str, **places: str) -> Callable[[Place], str]:
    """Return a VRT of an honest image with further elements in its band."""

    def write(place: Place) -> str:
        honest_image(place.folder / "b.tif")
        start, end = simple_vrt(str(place.folder / "b.tif")).split("<SimpleSource>")
        return f"{start}{text.format(**vars_of(place))}<SimpleSource>{end}"

    return write


def vars_of(place: Place) -> dict[str, str]:
    names = {"secret": str(place.secret), "image": str(place.image), "url": place.url}
    return names | {"folder": str(place.folder)}


def dataset(text: str, kind: str = "") -> Callable[[Place], str]:
    """Return a VRT of another kind."""
    size = f'rasterXSize="{WIDTH}" rasterYSize="{HEIGHT}"'
    kind = f' subClass="{kind}"' if kind else ""
    return lambda place: (
        f"<VRTDataset {size}{kind}>{text.format(**vars_of(place))}</VRTDataset>"
    )


_BAND = '<VRTRasterBand dataType="Byte" band="1"'
_FILE = '<SourceFilename relativeToVRT="0">{image}</SourceFilename>'
texts(
    SCENES,
    vrt_overview=(
        "a.vrt",
        in_band(f"<Overview>{_FILE}<SourceBand>1</SourceBand></Overview>"),
    ),
    vrt_mask=(
        "a.vrt",
        dataset(
            f"{_BAND}/><MaskBand>{_BAND}><SimpleSource>{_FILE}</SimpleSource>"
            "</VRTRasterBand></MaskBand>"
        ),
    ),
    vrt_attribute=(
        "a.vrt",
        dataset(f'{_BAND}><SimpleSource SourceFilename="{{image}}"/></VRTRasterBand>'),
    ),
    vrt_options=(
        "a.vrt",
        dataset(
            f"{_BAND}><SimpleSource><SourceFilename>{{folder}}/b.tif</SourceFilename>"
            "<OpenOptions><OOI key='OVERVIEW_FILE'>{image}</OOI></OpenOptions>"
            "</SimpleSource></VRTRasterBand>"
        ),
    ),
    vrt_group=(
        "a.vrt",
        dataset(
            "<Group name='/'><Array name='a'><DataType>Byte</DataType><Dimension"
            f" name='y' size='{HEIGHT}'/><Source>{_FILE}<SourceBand>1</SourceBand>"
            "</Source></Array></Group>"
        ),
    ),
    vrt_function=(
        "a.vrt",
        dataset(
            f'{_BAND} subClass="VRTDerivedRasterBand"><PixelFunctionType>mod'
            f"</PixelFunctionType><SimpleSource>{_FILE}</SimpleSource></VRTRasterBand>"
        ),
    ),
    vrt_function_of_python=(
        "a.vrt",
        dataset(
            f'{_BAND} subClass="VRTDerivedRasterBand"><PixelFunctionLanguage>Python'
            "</PixelFunctionLanguage><PixelFunctionCode>open('{secret}')"
            "</PixelFunctionCode></VRTRasterBand>"
        ),
    ),
    vrt_warped=(
        "a.vrt",
        dataset(
            f"{_BAND} subClass='VRTWarpedRasterBand'/><GDALWarpOptions><SourceDataset"
            " relativeToVRT='0'>{image}</SourceDataset><BandList><BandMapping src='1'"
            " dst='1'/></BandList></GDALWarpOptions>",
            "VRTWarpedDataset",
        ),
    ),
    vrt_sharpened=(
        "a.vrt",
        dataset(
            f"<PansharpeningOptions><PanchroBand>{_FILE}</PanchroBand><SpectralBand"
            f' dstBand="1">{_FILE}</SpectralBand></PansharpeningOptions>',
            "VRTPansharpenedDataset",
        ),
    ),
    vrt_processed=(
        "a.vrt",
        dataset(
            f"<Input>{_FILE}</Input><ProcessingSteps><Step name='a'><Algorithm>"
            "LUT</Algorithm></Step></ProcessingSteps>",
            "VRTProcessedDataset",
        ),
    ),
    vrt_tags=(
        "a.vrt",
        dataset(
            '<Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{image}</MDI>'
            f"</Metadata>{_BAND}/>"
        ),
    ),
    vrt_crs_of_a_server=("a.vrt", dataset(f"<SRS>{{url}}</SRS>{_BAND}/>")),
    vrt_in_another_encoding=(
        "a.vrt",
        lambda place: (
            "\N{BYTE ORDER MARK}"
            f"<?xml version='1.0' encoding='UTF-8'?>{simple_vrt(str(place.image))}"
        ),
    ),
)


@carrier(SCENES)
def vrt_of_a_vrt(place: Place) -> Path:
    place.write("b.VRT", raw_vrt(place))
    return place.write("a.vrt", simple_vrt(str(place.folder / "b.VRT")))


@carrier(SCENES)
def vrt_of_a_vrt_without_its_suffix(place: Place) -> Path:
    place.write("b.tif", raw_vrt(place))
    return place.write("a.vrt", simple_vrt(str(place.folder / "b.tif")))


@carrier(SCENES)
def vrt_of_an_image_with_an_overview(place: Place) -> Path:
    honest_image(place.folder / "b.tif")
    place.write("b.tif.ovr", raw_vrt(place, 2))
    return place.write("a.vrt", simple_vrt(str(place.folder / "b.tif")))


@carrier(SCENES)
def vrt_of_an_archive(place: Place) -> Path:
    archive = place.secret.with_name("secret.zip")
    if not archive.exists():
        with zipfile.ZipFile(archive, "w") as file:
            file.write(place.image, "a.tif")
    return place.write("a.vrt", simple_vrt(f"/vsizip/{archive}/a.tif"))


@carrier(SCENES)
def vrt_of_a_linked_folder(place: Place) -> Path:
    (place.folder / "x").symlink_to(place.secret.parent)
    return place.write("a.vrt", simple_vrt(str(place.folder / "x/secret.tif")))


def syntax(start: str, suffix: str = ".tif") -> Carrier:
    """Return a carrier whose relative name is the syntax of a driver, and that of an
    honest image."""

    def build(place: Place) -> Path:
        secret = place.image.with_suffix(suffix)
        if not secret.exists():
            kinds = {".jpg": "JPEG", ".ntf": "NITF"}
            with rasterio.open(
                secret, "w", kinds[suffix], WIDTH, HEIGHT, 1, dtype="uint8"
            ) as file:
                file.write(np.tile(ROW, (HEIGHT, 1)), 1)
        name = f"{start.format(size=secret.stat().st_size)}{secret}"
        decoy(place, name)
        return Path(name)

    return build


SCENES |= {
    "name_of_a_directory_of_tiff": syntax("GTIFF_DIR:1:"),
    "name_of_a_raw_tiff": syntax("GTIFF_RAW:"),
    "name_of_a_part_of_jpeg": syntax("JPEG_SUBFILE:Q0,0,{size},", ".jpg"),
    "name_of_an_image_of_nitf": syntax("NITF_IM:0:", ".ntf"),
    "name_of_an_archive": syntax("zip:"),
    "name_of_derived_values": syntax("DERIVED_SUBDATASET:AMPLITUDE:"),
}


def raw_values(name: str, header_name: str, header: str) -> Carrier:
    """Return a carrier of a raw format whose values are a link to the secret."""

    def build(place: Place) -> Path:
        place.write(header_name, header.format(width=WIDTH, height=HEIGHT))
        (place.folder / name).symlink_to(place.secret)
        return place.folder / name

    return build


def _property(name: str, value: str) -> str:
    return f"<property name='{name}'><value>{value}</value></property>"


SCENES |= {
    "raw_values_of_ehdr": raw_values(
        "a.bil",
        "a.hdr",
        "NROWS {height}\nNCOLS {width}\nNBANDS 1\nNBITS 8\nLAYOUT BIL\n",
    ),
    "raw_values_of_isce": raw_values(
        "a.slc",
        "a.slc.xml",
        "<imageFile>"
        + _property("WIDTH", "{width}")
        + _property("LENGTH", "{height}")
        + _property("NUMBER_BANDS", "1")
        + _property("DATA_TYPE", "BYTE")
        + _property("SCHEME", "BIL")
        + _property("BYTE_ORDER", "l")
        + "</imageFile>",
    ),
    "raw_values_of_roi_pac": raw_values(
        "a.msk", "a.msk.rsc", "WIDTH {width}\nFILE_LENGTH {height}\n"
    ),
    "raw_values_of_idrisi": raw_values(
        "a.rst",
        "a.rdc",
        "file format : Idrisi Raster A.1\nfile title : a\ndata type : byte\nfile type :"
        " binary\ncolumns : {width}\nrows : {height}\nref. system : plane\nref. units :"
        " m\nunit dist. : 1\nmin. X : 0\nmax. X : 1\nmin. Y : 0\nmax. Y : 1\nmin. value"
        " : 0\nmax. value : 255\n",
    ),
}


def link_beside(suffix: str, target: Callable[[Place], Path]) -> Carrier:
    """Return a carrier with a link to pixels beside an honest scene."""

    def build(place: Place) -> Path:
        path = honest_image(place.folder / "a.tif")
        Path(f"{path}{suffix}").symlink_to(target(place))
        return path

    return build


def small_secret(place: Place) -> Path:
    """Write the secret as an overview elsewhere."""
    path = place.secret.with_name("small.tif")
    if not path.exists():
        write_image(path, np.tile(ROW[::2], (HEIGHT // 2, 1)))
    return path


SCENES |= {
    "overview_through_a_link": link_beside(".ovr", small_secret),
    "mask_through_a_link": link_beside(".msk", lambda place: place.image),
}


@carrier(SCENES)
def values_of_hfa_elsewhere(place: Place) -> Path:
    """The values are in ../far/s.ige, which takes the place of a name as long."""
    name = "../far/s.ige"
    path = place.folder / f"{'a' * (len(name) - 4)}.img"
    with rasterio.open(
        path, "w", "HFA", WIDTH, HEIGHT, 1, dtype="uint8", USE_SPILL="YES"
    ) as file:
        file.write(np.tile(ROW, (HEIGHT, 1)), 1)
    path.with_suffix(".ige").rename(place.secret.with_name("s.ige"))
    stored = path.with_suffix(".ige").name.encode()
    path.write_bytes(path.read_bytes().replace(stored, name.encode()))
    return path


@carrier(SCENES)
def overview_of_nitf(place: Place) -> Path:
    path = place.folder / "a.ntf"
    with rasterio.open(path, "w", "NITF", WIDTH, HEIGHT, 1, dtype="uint8") as file:
        file.write(
            np.random.default_rng(0).integers(1, 255, (HEIGHT, WIDTH), np.uint8), 1
        )
    place.write("a.ntf.r1", raw_vrt(place, 2))
    return path


SCENES |= {
    "overview_of_an_image": beside(
        ".ovr", lambda place: simple_vrt(str(place.image), 2)
    ),
    "aux_xml_of_an_overview": beside(
        ".ovr.aux.xml", overview_of(lambda place: str(place.image)), between=True
    ),
    "hdf5_link_of_netcdf": hdf5("external_link_tracked"),
    "hdf5_links_that_are_many": hdf5("external_links_many"),
    "hdf5_virtual_dataset_earliest": hdf5("virtual_dataset_earliest"),
}


def hdf5_link(name: bytes) -> Carrier:
    """Return an HDF5 with a link whose name of four bytes does not print."""

    def build(place: Place) -> Path:
        (place.folder / os.fsdecode(name)).symlink_to(place.secret)
        data = (SCENES_CORPUS / "external_link_earliest").read_bytes()
        return place.write("a.h5", data.replace(b"b.h5", name))

    return build


SCENES_CORPUS = Path(__file__).parents[1] / "fuzz/corpus/scenes_hdf5/a.h5"
SCENES |= {
    "hdf5_link_of_a_byte": hdf5_link(b"\xff.h5"),
    "hdf5_link_of_a_tab": hdf5_link(b"\t.h5"),
    "hdf5_link_of_a_mark": hdf5_link("\u200fh".encode()),
}

LAYERS |= {
    "virtual_shape": geopackage(
        "table", "VIRTUAL TABLE v USING VirtualShape('{layer}', 'UTF-8', 4326)"
    ),
    "virtual_dbf": geopackage(
        "table", "VIRTUAL TABLE v USING VirtualDbf('{secret}', 'UTF-8')"
    ),
    "virtual_geojson": geopackage(
        "table", "VIRTUAL TABLE v USING VirtualGeoJSON('{secret}', 4326)"
    ),
    "virtual_csv": geopackage("table", "VIRTUAL TABLE v USING csv('{secret}')"),
    "view_of_all_layers": geopackage(
        "view",
        "VIEW v AS SELECT fid, geom, ogr_datasource_load_layers('{layer}') AS note FROM b",
    ),
    "view_of_an_attached_file": geopackage(
        "view", "VIEW v AS SELECT fid, geom, XB_Load('{secret}') AS note FROM b"
    ),
}


@carrier(LAYERS)
def layer_through_a_link(place: Place) -> Path:
    """The attributes of a Shapefile are those of another one."""
    for folder in (place.folder, place.secret.parent):
        name = "a" if folder == place.folder else "s"
        if not (folder / f"{name}.shp").exists():
            note = "a" if folder == place.folder else TEXT[:40].decode()
            geopandas.GeoDataFrame(
                {"note": [note]}, geometry=shapely.points([[30.0, 30.0]])
            ).to_file(folder / f"{name}.shp")
    (place.folder / "a.dbf").unlink()
    (place.folder / "a.dbf").symlink_to(place.secret.with_name("s.dbf"))
    return place.folder / "a.shp"


texts(
    LAYERS,
    schema_of_a_server=(
        "a.kml",
        lambda place: (
            "<kml xmlns='http://www.opengis.net/kml/2.2' xmlns:xi='"
            f"http://www.w3.org/2001/XInclude'><Document><xi:include href='{place.url}'/>"
            f"<Style id='a'><IconStyle><Icon><href>{place.url}</href></Icon></IconStyle>"
            "</Style><Placemark><Point><coordinates>1,2</coordinates></Point>"
            "</Placemark></Document></kml>"
        ),
    ),
    topology_of_a_file=(
        "a.geojson",
        lambda place: json.dumps(
            {
                "type": "Topology",
                "objects": {"a": {"type": "Point", "coordinates": [1, 2]}},
                "arcs": [],
                "crs": {"type": "name", "properties": {"name": str(place.layer)}},
            }
        ),
    ),
    service_of_features=(
        "a.geojson",
        lambda place: json.dumps(
            {
                "type": "FeatureCollection",
                "features": [],
                "exceededTransferLimit": True,
                "links": [{"rel": "next", "href": place.url}],
                "resourceInfo": {"url": place.url},
            }
        ),
    ),
)
