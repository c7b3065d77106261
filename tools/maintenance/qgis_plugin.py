"""Pack the plug-in for QGIS into a zip: the same files give the same bytes.

Any Python runs it, without packages.

python -m tools.maintenance.qgis_plugin dist/rsft_qgis.zip
"""

from __future__ import annotations

import argparse
from configparser import ConfigParser
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

PLUGIN_DIR = Path(__file__).parents[2] / "qgis/rsft_qgis"
"""Folder of the plug-in."""

LICENSE = PLUGIN_DIR.parents[1] / "LICENSE"
"""License of rsft, which the zip contains."""

FOR_THE_REPOSITORY = ("email", "tracker", "repository", "homepage")
"""Keys of metadata.txt that plugins.qgis.org also requires."""

_DATE = (1980, 1, 1, 0, 0, 0)
_SUFFIXES = {".py", ".svg", ".txt"}


def plugin_files(folder: Path = PLUGIN_DIR) -> list[Path]:
    """Return the files of the plug-in, sorted by name.

    Args:
        folder: folder of the plug-in.
    """
    files = (
        path
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
    return sorted(path for path in files if path.suffix in _SUFFIXES)


def write_plugin(path: Path) -> Path:
    """Write the zip and return its path.

    Args:
        path: path of the zip.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.part")
    try:
        with ZipFile(temporary, "w") as archive:
            names = {
                file.relative_to(PLUGIN_DIR.parent).as_posix(): file
                for file in plugin_files()
            }
            for name, file in sorted(
                {f"{PLUGIN_DIR.name}/LICENSE": LICENSE, **names}.items()
            ):
                entry = ZipInfo(name, _DATE)
                entry.external_attr = 0o644 << 16
                entry.compress_type = ZIP_DEFLATED
                archive.writestr(entry, file.read_bytes())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def read_metadata(folder: Path = PLUGIN_DIR) -> dict[str, str]:
    """Read metadata.txt.

    Args:
        folder: folder of the plug-in.

    Returns:
        Key -> text.
    """
    parser = ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys are case-sensitive
    parser.read(folder / "metadata.txt", encoding="utf-8")
    return dict(parser["general"])


def missing_for_the_repository(folder: Path = PLUGIN_DIR) -> list[str]:
    """Return what plugins.qgis.org requires and the plug-in does not have.

    QGIS installs the zip without it.

    Args:
        folder: folder of the plug-in.
    """
    metadata = read_metadata(folder)
    return [
        f"{key} in metadata.txt" for key in FOR_THE_REPOSITORY if not metadata.get(key)
    ]


def main() -> None:
    """Write the zip and print its path."""
    parser = argparse.ArgumentParser(
        description="Pack the plug-in for QGIS into a zip."
    )
    parser.add_argument(
        "path",
        type=Path,
        nargs="?",
        default=Path("dist/rsft_qgis.zip"),
        help="Path of the zip.",
    )
    print(write_plugin(parser.parse_args().path))
    missing = missing_for_the_repository()
    if missing:
        print(f"before an upload to plugins.qgis.org, add: {', '.join(missing)}")


if __name__ == "__main__":
    main()
