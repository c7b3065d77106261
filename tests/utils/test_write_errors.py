import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from rsft.errors import RequestError
from rsft.utils.atomic_files import atomic_file, atomic_folder
from rsft.utils.write_errors import explain_os_error, writing

LIMITED = """
import resource, signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
from rsft.utils.atomic_files import atomic_file
for name, write in WRITERS.items():
    try:
        with atomic_file(Path(sys.argv[1], name)) as temporary:
            exec(write)
    except OSError as error:
        print(error.errno, error.filename)
"""
WRITERS = {
    "torch.ckpt": "import torch; torch.save({'a': torch.zeros(50_000)}, temporary)",
    "table.parquet": (
        "import numpy, pandas; pandas.DataFrame({'a':"
        " numpy.random.rand(50_000)}).to_parquet(temporary)"
    ),
    "text.csv": "temporary.write_text('x' * 100_000)",
    "layer.gpkg": (
        "import geopandas, shapely; temporary.unlink(); geopandas.GeoDataFrame({'a':"
        " ['x' * 100] * 5000}, geometry=[shapely.Point(0, 0)] * 5000,"
        " crs=4326).to_file(temporary, driver='GPKG')"
    ),
    "weights.safetensors": (
        "import torch; from safetensors.torch import save_file; "
        "save_file({'a': torch.zeros(50_000)}, temporary)"
    ),
    "journal.sqlite": (
        "import sqlite3; temporary.unlink(); database = sqlite3.connect(temporary);"
        " database.execute('CREATE TABLE a (b TEXT)'); database.execute('INSERT INTO a"
        " VALUES (?)', ('x' * 100_000,)); database.commit()"
    ),
}


@pytest.mark.slow
def test_every_library_names_the_limit_and_the_file(tmp_path):
    """A limit of the file size stops writers as a full disk does, without root."""
    command = [sys.executable, "-c", f"WRITERS = {WRITERS}{LIMITED}", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        f"{errno.EFBIG} {tmp_path / name}" for name in WRITERS
    ]
    assert list(tmp_path.iterdir()) == []  # nothing is half-written


def test_full_disk_in_the_words_of_libraries(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100}))
    texts = (
        RuntimeError(
            "[enforce fail at inline_container.cc:672] . unexpected pos 81856 vs 81744"
        ),
        RuntimeError("Exception from src/core/xml_util.cpp: can't save"),
        OSError("Write failed"),  # of rasterio, without a number
    )
    for error in texts:
        with pytest.raises(OSError) as caught, writing(tmp_path / "x"):
            raise error
        assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(
            tmp_path / "x"
        )


def test_other_exceptions_pass(tmp_path):
    errors = (
        RequestError("no"),
        ValueError("write"),
        RuntimeError("shapes differ"),
        FileNotFoundError(errno.ENOENT, "No such file", "input.tif"),
        sqlite3.OperationalError("no such table: x"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
    )
    for error in errors:
        with pytest.raises(type(error)) as caught, writing(tmp_path / "x"):
            raise error
        assert caught.value is error


def test_paths_of_temporary_files_are_not_shown(tmp_path):
    with (
        pytest.raises(OSError) as caught,
        atomic_file(tmp_path / "out.csv") as temporary,
    ):
        raise OSError(errno.ENOSPC, "No space left on device", str(temporary))
    assert caught.value.filename == str(tmp_path / "out.csv")


def test_a_rename_to_another_disk_names_the_target(tmp_path, monkeypatch):
    def rename(source, target):
        raise OSError(
            errno.EXDEV, "Invalid cross-device link", str(source), None, str(target)
        )

    monkeypatch.setattr(Path, "replace", rename)
    with pytest.raises(OSError) as caught, atomic_file(tmp_path / "out.csv"):
        pass
    assert (caught.value.errno, caught.value.filename) == (
        errno.EXDEV,
        str(tmp_path / "out.csv"),
    )


def test_a_copy_to_a_full_disk_names_the_target_and_a_missing_source_itself(tmp_path):
    for number, name in ((errno.ENOSPC, str(tmp_path / "out")), (errno.EIO, "source")):
        with (
            pytest.raises(OSError) as caught,
            atomic_folder(tmp_path / "out") as temporary,
        ):
            # as of shutil.copyfile
            raise OSError(
                number, os.strerror(number), "source", None, str(temporary / "a")
            )
        assert (caught.value.errno, caught.value.filename) == (number, name)


@pytest.mark.parametrize(
    ("number", "message", "hint"),
    [
        (
            errno.ENOSPC,
            "the disk is full",
            "free some space or choose another disk, then go on",
        ),
        (errno.EMFILE, "too many files are open", "ulimit -n"),
        (errno.EACCES, "permission denied", "permissions"),
        (errno.ENAMETOOLONG, "the name of the file is too long", "255 bytes"),
        (errno.EISDIR, "a folder is in the place of a file", "rename"),
        (errno.EXDEV, "Invalid cross-device link", "go on"),
    ],
)
def test_sentences(number, message, hint):
    error = explain_os_error(
        OSError(number, "Invalid cross-device link", "a.tif"), again="go on"
    )
    assert error.message == message and error.location == "a.tif" and hint in error.hint


def test_an_error_without_a_number_is_shown_in_its_words():
    assert explain_os_error(OSError("words")).message == "words"
