"""Scenes in archives, on web servers and in subdatasets; what goes wrong there."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio.shutil
from scipy.io import netcdf_file

from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import DataError, NetworkError, RequestError
from rsft.inference.scenes.raster import PixelWindow, SceneReader, gdal_environment, open_scene
from tests.helpers.file_server import FileServer, serving_folder
from tests.helpers.messages import mentions
from tests.helpers.scenes import UTM, write_geotiff

RAMP = np.arange(300 * 200, dtype=np.uint16).reshape(300, 200) + 1
TILES = {"tiled": True, "blockxsize": 64, "blockysize": 64}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_geotiff(tmp_path / "a b.tif", RAMP, crs="EPSG:32633", transform=UTM, **TILES)
    write_geotiff(tmp_path / "ü.tif", RAMP)
    return tmp_path


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("rsft.utils.remote_files._PAUSE", 0)
    with serving_folder(folder) as server, gdal_environment():
        yield server


def read(name: str | Path) -> np.ndarray:
    """Return four pixels of the first band of a scene."""
    reader = SceneReader(open_scene(name))
    try:
        return reader(PixelWindow(10, 20, 12, 22))[:, :, 0]
    finally:
        reader.close()


def archive(path: Path, *members: Path) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "text")
        for member in members:
            file.write(member, f"in/{member.name}")
    return path


def test_archive_with_one_raster(folder: Path) -> None:
    path = archive(folder / "z.zip", folder / "a b.tif")
    for name in (path, f"/vsizip/{path}/in/a b.tif"):
        assert (read(name) == RAMP[10:12, 20:22]).all()
    assert (open_scene(path).name, open_scene(f"/vsizip/{path}/in/a b.tif").name) == ("z", "a_b")


def test_archives_that_are_no_scene(folder: Path) -> None:
    with pytest.raises(RequestError, match="contains 2 rasters") as caught:
        open_scene(archive(folder / "two.zip", folder / "a b.tif", folder / "ü.tif"))
    assert f"/vsizip/{{{folder}/two.zip}}/in/ü.tif" in caught.value.hint
    with pytest.raises(DataError, match="contains no raster"):
        open_scene(archive(folder / "none.zip"))
    (folder / "cut.zip").write_bytes((folder / "two.zip").read_bytes()[:999])
    with pytest.raises(DataError, match=mentions("archive", "cannot be read")):
        open_scene(folder / "cut.zip")
    with pytest.raises(DataError, match=mentions("GDAL", "scene")):
        open_scene(f"/vsizip/{folder}/two.zip/in/missing.tif")
    with pytest.raises(DataError, match="no such scene"):
        open_scene(f"/vsizip/{folder}/missing.zip/in/a.tif")


@pytest.mark.parametrize("name", ["raw.tif", "raw.vrt"])
def test_text_that_names_a_file_is_no_scene(tmp_path: Path, name: str) -> None:
    band = "<SourceFilename>/etc/passwd</SourceFilename><PixelOffset>1</PixelOffset><LineOffset>20</LineOffset>"
    band = f'<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">{band}</VRTRasterBand>'
    (tmp_path / name).write_text(f'<VRTDataset rasterXSize="40" rasterYSize="40">{band}</VRTDataset>')
    with pytest.raises(DataError, match=r"list of other files|contains VRTRawRasterBand"):
        open_scene(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_pipes_are_no_scene(tmp_path: Path) -> None:
    for name in ("a.tif", "a.json"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(DataError, match=mentions("pipe", "device")):
            open_scene(tmp_path / name)


@pytest.mark.parametrize("name", ["a%20b.tif", "a b.tif", "ü.tif", "%C3%BC.tif"])
def test_scene_on_a_web_server_is_read_in_parts(server: FileServer, name: str) -> None:
    scene = open_scene(server.url(name))
    assert (read(server.url(name)) == RAMP[10:12, 20:22]).all()
    assert str(scene.path) == server.url(name) and scene.path.name in ("a b.tif", "ü.tif")
    assert {request.split(" ", 1)[1] for request in server.requests} == {scene.path.name}  # no search for other files


def test_signed_address(server: FileServer) -> None:
    server.query = "se=2030&sig=a%2Bb"
    scene = open_scene(server.url("a%20b.tif?se=2030&sig=a%2Bb"))
    assert str(scene.path) == server.url("a%20b.tif") and scene.name == "a_b"
    with pytest.raises(NetworkError, match=r"127.0.0.1 answered 403 Forbidden") as caught:
        open_scene(server.url("a%20b.tif?se=2020&sig=old"))
    assert "old" not in str(caught.value) and "signature has expired" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("missing.tif", NetworkError, "127.0.0.1 answered 404 Not Found.*check the address"),
        ("busy.tif", NetworkError, "127.0.0.1 answered 503 Service Unavailable.*try later"),
        ("page.tif", DataError, "the server sent a web page, not a raster"),
        ("text.tif", DataError, "GDAL cannot read the scene"),
        ("empty.tif", DataError, "the file is empty"),
    ],
)
def test_faults_of_a_web_server(server: FileServer, folder: Path, name: str, error: type, message: str) -> None:
    (folder / "page.tif").write_text("\n<!DOCTYPE HTML><html>Log in</html>")
    (folder / "text.tif").write_text("no raster")
    (folder / "empty.tif").touch()
    server.statuses["busy.tif"] = 503
    with pytest.raises(error, match=message):
        open_scene(server.url(name))


def test_servers_that_cannot_be_used(server: FileServer) -> None:
    server.ranges = False
    with pytest.raises(DataError, match=mentions("parts of a file", "download")):
        open_scene(server.url("a%20b.tif"))
    with pytest.raises(NetworkError, match=mentions("127.0.0.1", "Connection refused")):
        open_scene("http://127.0.0.1:9/a.tif")
    with pytest.raises(RequestError, match=mentions("not an address")):
        open_scene("http://[bad/a.tif")


@pytest.mark.slow
def test_server_that_fails_while_the_scene_is_read(server: FileServer) -> None:
    reader = SceneReader(open_scene(server.url("a%20b.tif")))
    server.statuses["a b.tif"] = 404
    with pytest.raises(NetworkError, match=mentions("127.0.0.1 answered 404", "resumes")):
        reader(PixelWindow(0, 0, 300, 200))
    reader.close()


def test_truncated_file_on_a_web_server(server: FileServer, folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 999, (400, 400), np.uint16)
    path = folder / "cut.tif"
    rasterio.shutil.copy(write_geotiff(folder / "whole.tif", noise), path, driver="COG", compress="none", blocksize=128)
    path.write_bytes(path.read_bytes()[:100_000])
    reader = SceneReader(open_scene(server.url("cut.tif")))
    with pytest.raises(DataError, match="truncated or damaged"):
        reader(PixelWindow(300, 300, 310, 310))
    reader.close()


def test_state_changes_with_the_file_on_the_server(server: FileServer, folder: Path) -> None:
    uri = SceneUri(server.url("ü.tif"))
    before = uri.state()
    assert before == uri.state() and before[0] == (folder / "ü.tif").stat().st_size and before[1].startswith('"')
    write_geotiff(folder / "ü.tif", RAMP + 1)
    assert uri.state() != before


def write_netcdf(path: Path) -> Path:
    with netcdf_file(str(path), "w") as file:
        for name, length in (("y", 30), ("x", 20)):
            file.createDimension(name, length)
        for name, value in (("VV", -10), ("VH", -20)):
            variable = file.createVariable(name, "f4", ("y", "x"))
            variable[:] = value + np.arange(600).reshape(30, 20) / 100
            variable.units = "dB"
    return path


def test_variables_of_a_netcdf_file(tmp_path: Path) -> None:
    path = write_netcdf(tmp_path / "s.nc")
    for name in (f'NETCDF:"{path}":VH', f"NETCDF:{path}:VH"):
        scene = open_scene(name)
        assert (scene.name, scene.path.name, scene.unit, scene.bands) == ("s_VH", "s.nc:VH", "db", ("VH",))
        bottom_row = SceneReader(scene)(
            PixelWindow(29, 0, 30, 2)
        ).ravel()  # the first one of a file without coordinates
        assert bottom_row.tolist() == [-20, np.float32(-19.99)]
    with pytest.raises(DataError, match=mentions("no bands", "other rasters")) as caught:
        open_scene(path)
    first, second = caught.value.hint.removeprefix("give one of them: ").split(", ")
    assert (open_scene(first).bands, open_scene(second).bands) == (("VV",), ("VH",))
    with pytest.raises(DataError, match=mentions("GDAL", "scene")):
        open_scene(f"NETCDF:{path}:HH")
    with pytest.raises(DataError, match="no such scene"):
        open_scene(f"NETCDF:{tmp_path}/missing.nc:VV")
