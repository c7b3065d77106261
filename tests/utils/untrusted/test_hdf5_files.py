"""HDF5 that names other files is refused before GDAL opens it."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from rsft.data.imagery.rasters import ForeignFilesError, open_raster
from rsft.utils.untrusted.hdf5_files import find_named_files
from tests.helpers.scenes import write_hdf5

CORPUS = Path(__file__).parents[2] / "fuzz/corpus/scenes_hdf5/a.h5"
FAULTS = {
    "compressed_links": "compressed links",
    "external_link_earliest": "a link to another file",
    "external_link_latest": "a link to another file",
    "external_link_to_a_server": "a link to another file",
    "external_link_tracked": "a link to another file",
    "external_links_many": "a link to another file",
    "external_storage_earliest": r"from another file \(external storage\)",
    "external_storage_latest": r"from another file \(external storage\)",
    "only_its_first_bytes": "it is truncated",
    "short_addresses": "do not have 64 bits",
    "user_block": "does not begin at its first byte",
    "virtual_dataset_earliest": r"from other files \(virtual dataset\)",
    "virtual_dataset_latest": r"from other files \(virtual dataset\)",
}


def test_all_files_of_the_corpus_are_tested():
    assert {path.name for path in CORPUS.iterdir()} == FAULTS.keys()


@pytest.mark.parametrize("name", FAULTS)
def test_a_file_that_names_others_is_refused(name, tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes((CORPUS / name).read_bytes())
    for text in (str(path), f'HDF5:"{path}"://VV', f"NETCDF:{path}:VV"):
        with pytest.raises(ForeignFilesError, match=FAULTS[name]):
            open_raster(text)


def test_a_file_that_names_no_others_is_read(tmp_path):
    pixels = np.arange(48, dtype=np.uint8).reshape(6, 8)
    path = write_hdf5(tmp_path / "a.h5", pixels)
    assert find_named_files(path) == ""
    with open_raster(str(path)) as file:
        assert sorted(file.read().ravel()) == sorted(pixels.ravel())


@pytest.mark.parametrize("name", [b"\x01.h5", b"\xff.h5", b"\t.h5", b"\x01/b5"])
@pytest.mark.parametrize("file", [name for name in FAULTS if "external_link" in name])
def test_a_link_is_refused_whatever_its_name(name, file, tmp_path):
    """The netCDF library follows a link whose name does not print."""
    path = tmp_path / "a.h5"
    content = (CORPUS / file).read_bytes().replace(b"b.h5", name)
    path.write_bytes(content)
    assert "link" in find_named_files(path)


@pytest.mark.parametrize("name", [b"\x01.h5", b"\xff.h5", b"\t.h5", b"\x01/b5"])
def test_bytes_like_a_link_are_refused_if_they_lead_somewhere(name, tmp_path):
    """Elsewhere in the file, they may be values."""
    path = write_hdf5(tmp_path / "a.h5", np.eye(8, dtype=np.uint8))
    with path.open("ab") as file:
        file.write(b"\x01\x08\x40\x01a\x07\0\0" + name + b"\0d\0")
    assert find_named_files(path) == ""
    linked = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    linked.parent.mkdir(exist_ok=True)
    linked.write_bytes(b"")
    os.utime(path, (1, 1))  # the file is searched again
    assert "link" in find_named_files(path)


HOSTILE = {
    "addresses": (b"GCOL" * 20_000 + b"\x04\x03" * 60_000, ""),
    "links to nowhere": (b"\x01\x08\x40\x00\xff\xff\0" * 60_000, "look like links"),
    "links without names": (b"\x01\x08\x40\x00\x01\x00\0" * 60_000, ""),
    "long links without names": (b"\x01\x08\x40\x00\xff\xff\0\0" * 200_000, ""),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_searched_in_one_pass(name, tmp_path):
    """The time must not grow with the square of the size, nor with 64 KiB for each
    link."""
    content, fault = HOSTILE[name]
    path = write_hdf5(tmp_path / "a.h5", np.eye(8, dtype=np.uint8))
    with path.open("ab") as file:
        file.write(content)
    start = time.process_time()
    assert fault in find_named_files(path) and bool(find_named_files(path)) == bool(
        fault
    )
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("heap", "message", "fault"),
    [
        (b"GCOL", b"\x04\x03", "virtual dataset"),
        (b"HEAP", b"\x01\0\0\0\x01\0\0\0", "external storage"),
    ],
)
def test_an_address_of_a_heap_makes_a_message_of_bytes(tmp_path, heap, message, fault):
    path = write_hdf5(tmp_path / "a.h5", np.eye(8, dtype=np.uint8))
    size = path.stat().st_size
    for address, expected in ((size, fault), (size + 1, ""), (2**64 - 1, "")):
        content = path.read_bytes()[:size] + heap + message
        path.write_bytes(content + address.to_bytes(8, "little"))
        os.utime(path, (1, address % 1000))  # the file is searched again
        assert (fault in find_named_files(path)) == bool(expected)


def test_a_link_is_followed_from_the_folder_of_the_file_itself(tmp_path):
    """The library also looks beside the file that a link to the file leads to."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store/\x01.h5").write_bytes(b"")
    (tmp_path / "store/b.h5").write_bytes(
        (CORPUS / "external_link_latest").read_bytes().replace(b"b.h5", b"\x01.h5")
    )
    (tmp_path / "a.h5").symlink_to("store/b.h5")
    assert "link" in find_named_files(tmp_path / "a.h5")


@pytest.mark.parametrize(
    "content", [b"", b"CDF\x01" + bytes(2000), b"text", bytes(5000)]
)
def test_other_content_names_no_files(content, tmp_path):
    (tmp_path / "a.nc").write_bytes(content)
    assert find_named_files(tmp_path / "a.nc") == ""


def test_a_file_is_searched_again_after_a_change(tmp_path):
    path = write_hdf5(tmp_path / "a.h5", np.eye(8, dtype=np.uint8))
    assert find_named_files(path) == ""
    path.write_bytes((CORPUS / "external_link_latest").read_bytes())
    assert find_named_files(path)


@pytest.mark.skipif(
    not hasattr(os, "mkfifo"), reason="this system has no pipes in folders"
)
def test_pipes_are_refused(tmp_path):
    os.mkfifo(tmp_path / "a.nc")
    with pytest.raises(OSError, match="a pipe"):
        find_named_files(tmp_path / "a.nc")
