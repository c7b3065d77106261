"""The content of a file cannot make GDAL read other files, or ask a server."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioError

from rsft.data.imagery.rasters import ForeignFilesError, open_raster, read_tiff_tags
from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError
from tests.helpers.file_server import serving_folder
from tests.helpers.messages import mentions
from tests.helpers.scenes import write_geotiff

RAMP = np.arange(300 * 200, dtype=np.uint16).reshape(300, 200) + 1
SECRET = b"root:x:0:0:root:/root:/bin/bash\n" * 100


def vrt(source, relative=0, band="", rest=""):
    """Return a VRT of one image; `band` and `rest` are added to its elements."""
    name = f'<SourceFilename relativeToVRT="{relative}">{source}</SourceFilename>'
    band = (
        '<VRTRasterBand dataType="UInt16" band="1"'
        f" {band}><SimpleSource>{name}</SimpleSource>{rest}</VRTRasterBand>"
    )
    return f'<VRTDataset rasterXSize="200" rasterYSize="300">{band}</VRTDataset>'


def raw_vrt(path):
    """Return a VRT that reads any file as pixels."""
    name = f'<SourceFilename relativetoVRT="0">{path}</SourceFilename>'
    steps = "<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>20</LineOffset>"
    band = (
        '<VRTRasterBand dataType="Byte" band="1"'
        f' subClass="VRTRawRasterBand">{name}{steps}</VRTRasterBand>'
    )
    return f'<VRTDataset rasterXSize="20" rasterYSize="20">{band}</VRTDataset>'


def service(address):
    """Return the description of a map service."""
    server = f'<Service name="TMS"><ServerUrl>{address}</ServerUrl></Service>'
    return f"<GDAL_WMS>{server}<BandsCount>1</BandsCount></GDAL_WMS>"


@pytest.mark.parametrize("name", ["x.tif", "x.jp2", "x.vrt", "x", "x.png"])
def test_content_cannot_name_a_server(tmp_path, name):
    write_geotiff(tmp_path / "a.tif", RAMP)
    with serving_folder(tmp_path) as server:
        address = server.url("a.tif")
        for content in (
            vrt(f"/vsicurl/{address}"),
            "\n\n<!-- x -->" + vrt(f"/vsicurl/{address}"),
            service(server.url("${z}/${x}/${y}.png")),
            f"<WMS_Capabilities><Capability><Request><GetMap>{address}</GetMap></Request></Capability></WMS_Capabilities>",
            f"<WCS_GDAL><ServiceURL>{address}</ServiceURL><CoverageName>a</CoverageName></WCS_GDAL>",
            f"<GDALTileIndexDataset><IndexDataset>/vsicurl/{address}</IndexDataset></GDALTileIndexDataset>",
            f"<Folder><NetworkLink><href>{address}</href></NetworkLink></Folder>",
            f"<kml><NetworkLink><href>{address}</href></NetworkLink></kml>",
            json.dumps(
                {
                    "stac_version": "1.0.0",
                    "type": "FeatureCollection",
                    "features": [],
                    "href": address,
                }
            ),
        ):
            (tmp_path / name).write_text(content)
            with pytest.raises(RasterioError):
                open_raster(str(tmp_path / name))
        assert server.requests == []


@pytest.mark.parametrize("name", ["x.tif", "x.vrt"])
def test_content_cannot_name_a_file(tmp_path, name):
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / name).write_text(raw_vrt(tmp_path / "secret"))
    with pytest.raises(RasterioError):
        open_raster(str(tmp_path / name))
    with pytest.raises(DataError, match="not an image"):
        read_chip(tmp_path / name)


def test_vrt_names_images_below_its_folder(tmp_path):
    (tmp_path / "in/tiles").mkdir(parents=True)
    write_geotiff(tmp_path / "in/tiles/a.tif", RAMP)
    write_geotiff(tmp_path / "outside.tif", RAMP)
    path = tmp_path / "in/x.vrt"
    for source, relative in (("tiles/a.tif", 1), (tmp_path / "in/tiles/a.tif", 0)):
        path.write_text(vrt(str(source), relative))
        with open_raster(str(path)) as file:
            assert (file.read(1) == RAMP).all()
    (tmp_path / "in/text.tif").write_text(vrt("tiles/a.tif", 1))
    (tmp_path / "in/b.vrt").write_text(vrt("tiles/a.tif", 1))
    (tmp_path / "in/link.tif").symlink_to(tmp_path / "outside.tif")
    for content in (
        vrt("../outside.tif", 1),
        vrt("link.tif", 1),
        vrt(str(tmp_path / "outside.tif")),
        vrt("tiles", 1),
        vrt("text.tif", 1),
        vrt("b.vrt", 1),
        vrt(f"NETCDF:{tmp_path}/in/tiles/a.tif:x"),
        vrt("tiles/a.tif", 1, band='subClass="VRTDerivedRasterBand"'),
        vrt("tiles/a.tif", 1).replace(
            "<VRTDataset", '<VRTDataset subClass="VRTWarpedDataset"'
        ),
        vrt("tiles/a.tif", 1, rest="<Group><Array><Source/></Array></Group>"),
        "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>" + vrt("&b;"),
        vrt("tiles/a.tif", 1)[:-20],
        vrt("../outside.tif", 1).lower(),
        vrt("tiles/a.tif", 1).replace(
            "<SimpleSource", '<SimpleSource sourceFileName="/etc/passwd"'
        ),
        vrt("tiles/a.tif", 1, rest="<subClass>VRTRawRasterBand</subClass>"),
    ):
        path.write_text(
            content if content[:2] != "<!" else "<?xml version='1.0'?>" + content
        )
        with pytest.raises(RasterioError):
            open_raster(str(path))


@pytest.mark.parametrize(
    "source",
    [
        " {far}",
        "\n{far}",
        "&#32;{far}",
        "{far}&#10;",
        "{far}<!-- -->/../../in/a.tif",
        "{far}<![CDATA[/../../in/a.tif]]>",
        "<b/>{far}",
        "GTIFF_DIR:1:{far}",
    ],
)
@pytest.mark.parametrize("relative", ["1", "0", " 1", '0" relativetovrt="1'])
def test_a_name_in_a_vrt_that_gdal_reads_differently(tmp_path, source, relative):
    """GDAL would open the image elsewhere; what was checked is opened, or nothing."""
    far = write_geotiff(tmp_path / "far.tif", RAMP)
    for decoy in ("a.tif", f" {far}", f"\n{far}", f"GTIFF_DIR:1:{far}"):
        path = Path(f"{tmp_path}/in/{decoy}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_geotiff(path, RAMP + 1)
    (tmp_path / "in/x.vrt").write_text(vrt(source.format(far=far), relative))
    try:
        with open_raster(str(tmp_path / "in/x.vrt")) as file:
            assert (file.read(1) == RAMP + 1).all()
    except ForeignFilesError:
        assert not (relative == "1" and source[0].isspace())


@pytest.mark.parametrize(
    "name", ["Größe 1.tif", "a&amp;b.tif", " b.tif", "c.tif ", "zip:d!.tif", "<e.tif"]
)
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_vrt_of_an_image_with_an_unusual_name(tmp_path, name, encoding):
    write_geotiff(tmp_path / "a.tif", RAMP).rename(
        tmp_path / name.replace("&amp;", "&")
    )
    text = vrt(name.replace("<", "&lt;"), 1)
    text = f"<?xml version='1.0' encoding='{encoding}'?><!-- honest -->{text}"
    (tmp_path / "x.vrt").write_bytes(text.encode(encoding))
    with open_raster(str(tmp_path / "x.vrt")) as file:
        assert (file.read(1) == RAMP).all()


def test_a_vrt_keeps_what_it_says_of_its_pixels(tmp_path):
    """All elements of a mosaic of GDAL, by value."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 60000, (2, 300, 200)).astype(np.uint16)
    for number, values in enumerate(pixels):
        write_geotiff(tmp_path / f"{number}.tif", values)
    source = (
        '<SourceFilename relativeToVRT="1" shared="0">{}.tif</SourceFilename>'
        "<SourceBand>1</SourceBand>"
        '<SourceProperties RasterXSize="200" RasterYSize="300" DataType="UInt16"'
        ' BlockXSize="200" BlockYSize="20"/><SrcRect xOff="0" yOff="0" xSize="200"'
        ' ySize="300"/><DstRect xOff="{}" yOff="0" xSize="200" ySize="300"/>'
    )
    bands = (
        f"<SimpleSource>{source.format(0, 0)}</SimpleSource>"
        f"<ComplexSource>{source.format(1, 200)}<ScaleOffset>3</ScaleOffset>"
        "<ScaleRatio>0.5</ScaleRatio><NODATA>7</NODATA></ComplexSource>"
    )
    (tmp_path / "x.vrt").write_text(
        '<VRTDataset RASTERXSIZE="400" rasterYSize="300">'
        '<SRS dataAxisToSRSAxisMapping="1,2">EPSG:32633</SRS>'
        "<GeoTransform>5e5, 10, 0, 6e6, 0, -10</GeoTransform>"
        '<Metadata><MDI key="AREA_OR_POINT">Point</MDI></Metadata>'
        '<Metadata domain="xml:a" format="xml"><any><thing/></any></Metadata>'
        '<VRTRasterBand dataType="Float32" band="1" subClass="VRTSourcedRasterBand">'
        "<Description>VV</Description><UnitType>dB</UnitType><NoDataValue>0"
        "</NoDataValue><Offset>2</Offset><Scale>0.1</Scale><ColorInterp>Gray"
        f"</ColorInterp><Histograms><HistItem/></Histograms>{bands}</VRTRasterBand>"
        "</VRTDataset>"
    )
    expected = np.hstack([pixels[0], np.where(pixels[1] == 7, 0, pixels[1] / 2 + 3)])
    with open_raster(str(tmp_path / "x.vrt")) as file:
        assert (file.read(1) == expected).all()
        assert file.crs.to_epsg() == 32633 and file.transform[2] == 5e5
        assert (file.nodata, file.scales, file.offsets) == (0, (0.1,), (2,))
        assert file.descriptions == ("VV",) and file.units == ("dB",)
        assert file.tags()["AREA_OR_POINT"] == "Point"
        assert Path(file.name).name == "x.vrt"


def test_a_linked_vrt_is_checked_where_it_lies(tmp_path):
    """GDAL takes relative names from the folder of the target."""
    for folder in ("in/far", "in/deep"):
        (tmp_path / folder).mkdir(parents=True)
    write_geotiff(tmp_path / "outside.tif", RAMP)
    write_geotiff(tmp_path / "in/far/a.tif", RAMP)
    (tmp_path / "in/deep/far").mkdir()
    (tmp_path / "in/deep/far/a.tif").symlink_to(tmp_path / "outside.tif")
    (tmp_path / "in/deep/x.vrt").write_text(vrt("far/a.tif", 1))
    (tmp_path / "in/x.vrt").symlink_to("deep/x.vrt")
    with pytest.raises(ForeignFilesError):
        open_raster(str(tmp_path / "in/x.vrt"))


@pytest.mark.parametrize("syntax", ["GTIFF_DIR:1:", "JPEG_SUBFILE:Q0,0,99999,", "zip:"])
def test_a_file_name_is_no_syntax(tmp_path, monkeypatch, syntax):
    monkeypatch.chdir(tmp_path)
    far = write_geotiff(tmp_path / "far.tif", RAMP)
    path = Path(f"{syntax}{far}")
    path.parent.mkdir(parents=True)
    write_geotiff(tmp_path / "local.tif", RAMP + 1).rename(path)
    with open_raster(str(path)) as file:
        assert (file.read(1) == RAMP + 1).all()


def test_an_overview_of_nitf_is_an_image(tmp_path):
    """GDAL would open the VRT beside the NITF, without suffix."""
    write_geotiff(tmp_path / "a.tif", RAMP)
    (tmp_path / "a.vrt").write_text(vrt("a.tif", 1))
    open_raster(str(tmp_path / "a.vrt")).close()
    (tmp_path / "secret").write_bytes(SECRET)
    with rasterio.open(
        tmp_path / "b.ntf", "w", "NITF", 40, 40, 1, dtype="uint8"
    ) as file:
        file.write(np.eye(40, dtype=np.uint8), 1)
    (tmp_path / "b.ntf.r1").write_text(raw_vrt(tmp_path / "secret"))
    with pytest.raises(RasterioError):
        open_raster(str(tmp_path / "b.ntf"))


def test_vrt_in_an_archive_is_refused(tmp_path):
    (tmp_path / "secret").write_bytes(SECRET)
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        file.writestr("x.vrt", raw_vrt(tmp_path / "secret"))
    with pytest.raises(RasterioError):
        open_raster(f"/vsizip/{tmp_path}/z.zip/x.vrt")


@pytest.mark.parametrize("place", ["folder", "archive"])
@pytest.mark.parametrize("suffix", [".ovr", ".OVR", ".msk", ".ovr.ovr"])
def test_overviews_and_masks_are_images(tmp_path, place, suffix):
    """GDAL would read them with any driver when a picture of the scene is made. In an
    archive, it does not see them."""
    path = write_geotiff(tmp_path / "a.tif", RAMP)
    (tmp_path / "secret").write_bytes(SECRET)
    if suffix == ".ovr.ovr":
        write_geotiff(tmp_path / "small.tif", RAMP[::2, ::2]).rename(
            tmp_path / "a.tif.ovr"
        )
    (tmp_path / f"a.tif{suffix}").write_text(raw_vrt(tmp_path / "secret"))
    name = str(path)
    if place == "archive":
        with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
            for member in (path, *tmp_path.glob("a.tif.*")):
                file.write(member, member.name)
        name = f"/vsizip/{tmp_path}/z.zip/a.tif"
    else:
        (tmp_path / "a.tfw").write_text("10\n0\n0\n-10\n500000\n6000000\n")
    if place != "archive":
        with pytest.raises(RasterioError):
            open_raster(name)
        return
    with open_raster(name) as file:
        assert file.overviews(1) == []
        small = file.read(1, out_shape=(15, 10))
        assert not file.read_masks(1, out_shape=(15, 10)).min() < 255
    assert small.std() > 0 and (np.diff(small.astype(int)) > 0).all()


def test_tags_name_no_overviews(tmp_path):
    with rasterio.open(write_geotiff(tmp_path / "a.tif", RAMP)) as file:
        profile = file.profile
    with rasterio.open(tmp_path / "b.tif", "w", **profile) as file:
        file.write(RAMP, 1)
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE="/etc/passwd")
    with pytest.raises(ForeignFilesError, match="overviews"):
        open_raster(str(tmp_path / "b.tif"))


@pytest.mark.parametrize("other", ["", "a.txt", "a.tif.ovr"])
def test_files_beside_a_raster_describe_it(tmp_path, other):
    """World file and .aux.xml are read, whatever else has the same stem."""
    with rasterio.open(
        tmp_path / "a.tif", "w", "GTiff", 200, 300, 1, dtype="uint16"
    ) as file:
        file.write(RAMP, 1)
    if other:
        write_geotiff(tmp_path / "small.tif", RAMP[::2, ::2]).rename(tmp_path / other)
    (tmp_path / "a.tfw").write_text("10\n0\n0\n-10\n500000\n6000000\n")
    band = (
        "<PAMRasterBand"
        ' band="1"><Description>VV</Description><NoDataValue>7</NoDataValue></PAMRasterBand>'
    )
    (tmp_path / "a.tif.aux.xml").write_text(
        f"<PAMDataset><SRS>EPSG:32633</SRS>{band}</PAMDataset>"
    )
    with open_raster(str(tmp_path / "a.tif")) as file:
        assert (
            file.transform[0],
            file.crs.to_epsg(),
            file.descriptions,
            file.nodata,
        ) == (10, 32633, ("VV",), 7)
        assert (file.read(1) == RAMP).all()


@pytest.mark.skipif(
    not hasattr(os, "mkfifo"), reason="this system has no pipes in folders"
)
def test_pipes_are_refused(tmp_path):
    os.mkfifo(tmp_path / "a.tif")
    with pytest.raises(ForeignFilesError, match=mentions("pipe", "device")):
        open_raster(str(tmp_path / "a.tif"))
    with pytest.raises(DataError, match=mentions("pipe", "device")):
        read_chip(tmp_path / "a.tif")
    with pytest.raises(ForeignFilesError, match="a device"):
        open_raster("/dev/zero")


def test_tags_of_tiff_files(tmp_path):
    write_geotiff(tmp_path / "a.tif", np.eye(8, dtype=np.uint8), names=("VV",))
    assert read_tiff_tags(tmp_path / "a.tif", lambda file: file.descriptions) == ("VV",)
    (tmp_path / "a.tif").rename(tmp_path / "a.png")
    assert read_tiff_tags(tmp_path / "a.png", lambda file: file.descriptions) is None
    (tmp_path / "b.tif").write_bytes(b"x")
    assert read_tiff_tags(tmp_path / "b.tif", lambda file: file.descriptions) is None


def test_values_of_another_folder_are_refused(tmp_path):
    """HFA names the file of its values, and GDAL before 3.12 takes `../far/s.ige`."""
    (tmp_path / "far").mkdir()
    (tmp_path / "in").mkdir()
    path = tmp_path / "in/aaaaaaaa.img"
    with rasterio.open(
        path, "w", "HFA", 40, 40, 1, dtype="uint8", USE_SPILL="YES"
    ) as file:
        file.write(np.eye(40, dtype=np.uint8), 1)
    with open_raster(str(path)) as file:
        assert (file.read(1) == np.eye(40)).all()
    path.with_suffix(".ige").rename(tmp_path / "far/s.ige")
    path.write_bytes(path.read_bytes().replace(b"aaaaaaaa.ige", b"../far/s.ige"))
    # GDAL 3.12 takes no such name any more
    refusals = (ForeignFilesError, rasterio.errors.RasterioIOError)
    with (
        pytest.raises(refusals, match=r"another folder|Read failed"),
        open_raster(str(path)) as file,
    ):
        file.read(1)


def test_an_overview_through_a_link_is_refused(tmp_path):
    (tmp_path / "far").mkdir()
    far = write_geotiff(tmp_path / "far/a.tif.ovr", RAMP[::2, ::2])
    path = write_geotiff(tmp_path / "a.tif", RAMP)
    (tmp_path / "a.tif.ovr").symlink_to(far)
    with pytest.raises(ForeignFilesError, match=r"a\.tif\.ovr leads"):
        open_raster(str(path))
    path.rename(tmp_path / "far/a.tif")
    path.symlink_to(tmp_path / "far/a.tif")  # a pair of links is honest
    with open_raster(str(path)) as file:
        assert file.overviews(1) == [2]
