"""The zip of the plug-in for QGIS."""

import zipfile

from rsft import __version__
from tools.maintenance.qgis_plugin import (
    LICENSE,
    PLUGIN_DIR,
    missing_for_the_repository,
    read_metadata,
    write_plugin,
)


def test_the_zip_is_reproducible(tmp_path):
    first = write_plugin(tmp_path / "new/a.zip")
    second = write_plugin(tmp_path / "b.zip")
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        names = archive.namelist()
        assert archive.read("rsft_qgis/LICENSE") == LICENSE.read_bytes()
        assert (
            archive.read("rsft_qgis/metadata.txt")
            == (PLUGIN_DIR / "metadata.txt").read_bytes()
        )
    assert names == sorted(names) and all(
        name.startswith("rsft_qgis/") for name in names
    )
    assert {
        "rsft_qgis/__init__.py",
        "rsft_qgis/icon.svg",
        "rsft_qgis/algorithms/classify.py",
    } <= set(names)
    # nothing compiled
    assert {name.rpartition(".")[2] for name in names} == {
        "rsft_qgis/LICENSE",
        "py",
        "svg",
        "txt",
    }
    assert (
        "rsft_qgis/algorithms/install_rsft.py" in names and first.stat().st_size < 20e6
    )


def test_metadata(tmp_path):
    metadata = read_metadata()
    assert (
        metadata["hasProcessingProvider"] == "yes"
        and metadata["version"] == __version__
    )
    assert missing_for_the_repository() == [
        f"{key} in metadata.txt"
        for key in ("email", "tracker", "repository", "homepage")
    ]
    required = (
        "name",
        "license",
        "category",
        "qgisMinimumVersion",
        "description",
        "about",
        "author",
        "icon",
        "tags",
    )
    assert (
        all(metadata[key] for key in required)
        and (PLUGIN_DIR / metadata["icon"]).is_file()
    )
    (tmp_path / "metadata.txt").write_text(
        "[general]\nname=x\nemail=a@b\nhasProcessingProvider=yes\n"
    )
    assert missing_for_the_repository(tmp_path) == [
        "tracker in metadata.txt",
        "repository in metadata.txt",
        "homepage in metadata.txt",
    ]
