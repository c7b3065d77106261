"""Names of scenes: paths, URLs, members of archives and subdatasets; the cache of the
last image."""

import os
import weakref
from pathlib import Path

import numpy as np
import pytest

from rsft.data.imagery.scene_uri import (
    LastImageCache,
    SceneUri,
    names_servers,
)
from rsft.errors import DataError
from rsft.types import Pixels


@pytest.mark.parametrize(
    ("text", "gdal_name", "name", "stem"),
    [
        ("a/b.c.tif", "a/b.c.tif", "b.c.tif", "b.c"),
        ("S1A.SAFE", "S1A.SAFE", "S1A.SAFE", "S1A"),
        (
            "https://h.org/d/a%20b.tif",
            "/vsicurl/https://h.org/d/a%20b.tif",
            "a b.tif",
            "a_b",
        ),
        (
            "https://h.org/d/ä b.tif",
            "/vsicurl/https://h.org/d/%C3%A4%20b.tif",
            "ä b.tif",
            "ä_b",
        ),
        ("https://h.org/a.zip", "/vsizip/{/vsicurl/https://h.org/a.zip}", "a.zip", "a"),
        ("https://h.org/", "/vsicurl/https://h.org/", "h.org", "h"),
        ("s3://bucket/k/a.tif", "/vsis3/bucket/k/a.tif", "a.tif", "a"),
        ("gs://bucket/k/a.tif", "/vsigs/bucket/k/a.tif", "a.tif", "a"),
        ("/vsizip/d/a.zip/in/b.tif", "/vsizip/d/a.zip/in/b.tif", "b.tif", "b"),
        ("/vsizip/{d/a.zip}", "/vsizip/{d/a.zip}", "a.zip", "a"),
        ('NETCDF:"d/a.nc":VV', 'NETCDF:"d/a.nc":VV', "a.nc:VV", "a_VV"),
        ("NETCDF:d/a.nc:VV", "NETCDF:d/a.nc:VV", "a.nc:VV", "a_VV"),
        (
            'HDF5:"g.h5"://science/A/HHHH',
            'HDF5:"g.h5"://science/A/HHHH',
            "g.h5:science/A/HHHH",
            "g_HHHH",
        ),
        (
            "HDF5:g.h5://science/A/HHHH",
            "HDF5:g.h5://science/A/HHHH",
            "g.h5:science/A/HHHH",
            "g_HHHH",
        ),
        (
            r"C:\d\a.tif",
            r"C:\d\a.tif",
            Path(r"C:\d\a.tif").name,
            Path(r"C:\d\a.tif").stem,
        ),
    ],
)
def test_names(text, gdal_name, name, stem):
    uri = SceneUri.parse(text)
    assert (uri.gdal_name, uri.name, uri.stem, str(uri)) == (
        gdal_name,
        name,
        stem,
        text,
    )


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://h.org/a.tif?x=1", "https://h.org/a.tif?x=1"),
        ("/vsicurl/https://h.org/a.tif", "https://h.org/a.tif"),
        ("/vsizip//vsicurl/https://h.org/a.zip/in/b.tif", "https://h.org/a.zip"),
        ("/vsizip/{/vsicurl/https://h.org/a.zip}/b.tif", "https://h.org/a.zip"),
        ('NETCDF:"/vsicurl/https://h.org/a.nc":VV', "https://h.org/a.nc"),
        ("s3://bucket/a.tif", None),
    ],
)
def test_names_on_servers(text, url):
    uri = SceneUri.parse(text)
    assert uri.is_remote and uri.url == url and uri.path is None


def test_secrets_are_not_shown():
    signed = SceneUri("https://me:pw@h.org/a.tif?st=1&sig=abc%3D")
    assert (
        str(signed) == "https://h.org/a.tif"
        and "sig=abc" in signed.gdal_name
        and signed.name == "a.tif"
    )
    assert (
        str(SceneUri("https://h.org/wcs?coverage=a")) == "https://h.org/wcs?coverage=a"
    )
    nested = SceneUri('NETCDF:"/vsicurl/https://h.org/a.nc?X-Amz-Signature=1":VV')
    assert str(nested) == 'NETCDF:"/vsicurl/https://h.org/a.nc":VV'


def test_local_files_of_archives_and_subdatasets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.zip").write_bytes(b"12345")
    (tmp_path / "a:b.nc").write_bytes(b"123")
    for text in (
        f"/vsizip/{tmp_path}/a.zip/in/b.tif",
        "/vsizip/a.zip/b.tif",
        "/vsizip/{a.zip}/b.tif",
    ):
        uri = SceneUri(text)
        assert (
            uri.path is not None
            and uri.path.resolve() == tmp_path / "a.zip"
            and not uri.is_remote
        )
        assert uri.state() == (5, Path("a.zip").stat().st_mtime_ns)
    assert (
        SceneUri("NETCDF:a:b.nc:VV").path == Path("a:b.nc")
        and SceneUri("NETCDF:a:b.nc:VV").name == "a:b.nc:VV"
    )
    assert SceneUri('HDF5:"a.zip"://x').state() == SceneUri("a.zip").state()
    assert (
        SceneUri("missing.tif").state() is None
        and SceneUri("/vsizip/missing.zip/b.tif").path is None
    )


def test_an_existing_file_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "NETCDF:a").touch()
    uri = SceneUri("NETCDF:a")
    assert (
        uri.is_path
        and uri.path == Path("NETCDF:a")
        and uri.absolute() == SceneUri(f"{tmp_path}/NETCDF:a")
    )
    assert SceneUri("https://h.org/a.tif").absolute().text == "https://h.org/a.tif"
    assert SceneUri.parse(f"file://{tmp_path}/a%20b.tif") == SceneUri(
        f"{tmp_path}/a b.tif"
    )
    assert SceneUri.parse(tmp_path / "x.tif").path == tmp_path / "x.tif"


def read(path):
    """Return the bytes of a file as an image of one row."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError("the file cannot be read", path, "bring it back") from error
    return np.frombuffer(data, np.uint8).reshape(1, -1, 1)


def test_image_is_read_once_and_again_after_a_change(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"ab")
    cache = LastImageCache(read)
    first = cache(path)
    assert cache(path) is first
    path.write_bytes(b"cd")
    os.utime(path, ns=(0, 1))
    assert cache(path).ravel().tolist() == list(b"cd")
    path.write_bytes(b"cde")
    os.utime(path, ns=(0, 1))
    assert cache(path).shape == (1, 3, 1)


def test_last_image_is_freed_before_the_next_is_read(tmp_path):
    seen: list[weakref.ref[Pixels]] = []

    def counted(path):
        assert all(image() is None for image in seen)
        pixels = np.zeros((2, 2, 1))
        seen.append(weakref.ref(pixels))
        return pixels

    cache = LastImageCache(counted)
    for name in "aab":
        cache(tmp_path / name)
    assert len(seen) == 2 and seen[1]() is not None


def test_an_image_that_cannot_be_read_is_tried_again(tmp_path):
    path = tmp_path / "a.png"
    cache = LastImageCache(read)
    for _ in range(2):
        with pytest.raises(DataError, match="cannot be read"):
            cache(path)
    path.write_bytes(b"ab")
    assert cache(path).size == 2


@pytest.mark.parametrize(
    ("name", "text", "is_remote"),
    [
        ("a.json", '{"stac_version": "1", "assets": {"x": {"href": "URL"}}}', True),
        ("a.GEOJSON", '{"stac_version": "1", "assets": {"x": {"href": "URL"}}}', True),
        ("a.json", '{"stac_version": "1", "assets": {"x": {"href": "a.tif"}}}', False),
        ("a.json", '{"assets": {"x": {"href": "URL"}}}', False),
        ("a.txt", '{"stac_version": "1", "assets": {"x": {"href": "URL"}}}', False),
        ("a.json", '{"stac_version": "1"}', False),
        ("a.json", "[", False),
    ],
)
def test_items_with_an_asset_on_a_server(tmp_path, name, text, is_remote):
    path = tmp_path / name
    path.write_text(text.replace("URL", "https://a.org/b.tif"))
    assert names_servers(path) == is_remote
    assert not names_servers(tmp_path / "absent.json")
