"""Put the SAR data sets that TorchGeo lacks into a checkout of TorchGeo, with their tests and generators.

    python -m tools.maintenance.torchgeo_checkout ../torchgeo

FUSARShip, SRSDD, FUSRS and the classes of the entry points `rsft.torchgeo_datasets`
import nothing of rsft but the mark `in_cell`, which is left out. The command copies their
files to torchgeo/datasets/, tests/data/ and tests/datasets/, with TorchGeo's license
header, changes the imports in the tests, and exports the classes in
torchgeo/datasets/__init__.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from rsft.errors import RequestError
from rsft.utils.registry import entry_points_of
from tools.errors import explained_errors

CLASSES = {"fusar_ship": "FUSARShip", "fusrs": "FUSRS", "srsdd": "SRSDD"}
"""Data set class by module in rsft/data/datasets/."""

MODULES = (
    *CLASSES,
    "images",
    "formats/box_labels",
    "formats/fusar_files",
    "formats/fusar_metadata",
    "formats/fusrs_classes",
    "formats/gray_images",
    "formats/srsdd_files",
    "formats/text_files",
)
"""Modules in rsft/data/datasets/; TorchGeo gets those of formats/ as _NAME."""

_IMPORTS = {
    "rsft.data.datasets.formats.": "torchgeo.datasets._",
    "rsft.data.datasets": "torchgeo.datasets",
    "tests.data.datasets": "tests.data",
    "tests.plugins": "tests.data",
    "tests.helpers": "tests.datasets",
}
_HEADER = """\
# Copyright (c) TorchGeo Contributors. All rights reserved.
# Licensed under the MIT License.

"""
_ROOT = Path(__file__).parents[2]


def main(
    checkout: Annotated[
        Path, typer.Argument(help="Folder that contains torchgeo/ and tests/.")
    ],
) -> None:
    """Copy the data sets into a checkout of TorchGeo.

    Raises:
        RequestError: the folder is no checkout of TorchGeo, or a file needs rsft.
    """
    for path in copy_datasets(checkout):
        typer.echo(path)


def copy_datasets(checkout: Path, modules: Sequence[str] = MODULES) -> list[Path]:
    """Copy the data sets into a checkout of TorchGeo.

    Args:
        checkout: folder that contains torchgeo/ and tests/.
        modules: the modules in rsft/data/datasets/.

    Returns:
        The written files.

    Raises:
        RequestError: the folder is no checkout of TorchGeo, or a file needs rsft.
            Nothing is written then.
    """
    index = checkout / "torchgeo/datasets/__init__.py"
    if not index.is_file():
        raise RequestError(
            "the folder is no checkout of TorchGeo", checkout, f"{index} is missing"
        )
    files = {"tests/datasets/messages.py": "tests/helpers/messages.py"}
    for name in modules:
        target = name.replace("formats/", "_")
        tests = Path("tests/data/datasets", name)
        files[f"torchgeo/datasets/{target}.py"] = f"rsft/data/datasets/{name}.py"
        files[f"tests/datasets/test_{target}.py"] = str(
            tests.with_name(f"test_{tests.name}.py")
        )
    classes = dict(CLASSES)
    imports = dict(_IMPORTS)
    for name in CLASSES:
        files[f"tests/data/{name}/data.py"] = f"tests/data/datasets/{name}/data.py"
    for name, point in entry_points_of("rsft.torchgeo_datasets").items():
        package = point.module.rpartition(".")[0]
        plugin_tests = f"tests/plugins/{package.rpartition('.')[2]}"
        classes[name] = point.attr
        imports[package] = "torchgeo.datasets"
        source = f"{point.module.replace('.', '/')}.py"
        files[f"torchgeo/datasets/{name}.py"] = source
        text = (_ROOT / source).read_text("utf-8")
        for helper in re.findall(rf"from {re.escape(package)}\.(\w+) import", text):
            files[f"torchgeo/datasets/{helper}.py"] = str(
                Path(source).with_name(f"{helper}.py")
            )
        files[f"tests/data/{name}/data.py"] = f"{plugin_tests}/data.py"
        files[f"tests/datasets/test_{name}.py"] = f"{plugin_tests}/test_{name}.py"
    texts = {
        target: _read_for_torchgeo(_ROOT / source, imports)
        for target, source in files.items()
    }
    exports = "".join(
        f"from .{name} import {title}\n" for name, title in classes.items()
    )
    text = index.read_text("utf-8")
    if exports not in text:
        texts["torchgeo/datasets/__init__.py"] = (
            f"{text}\n{exports}\n__all__ += {tuple(classes.values())}\n"
        )
    for target, content in texts.items():
        path = checkout / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")
    return [checkout / target for target in texts]


def _read_for_torchgeo(source: Path, imports: Mapping[str, str]) -> str:
    """Return the text of a file with the imports of a checkout of TorchGeo."""
    text = source.read_text("utf-8")
    for mark in ("from rsft.utils.cell.client import in_cell\n", "@in_cell\n"):
        text = text.replace(mark, "")  # TorchGeo has no reader cell
    for ours, theirs in imports.items():
        text = text.replace(ours, theirs)
    if "rsft" in text:
        line = next(
            number for number, line in enumerate(text.splitlines(), 1) if "rsft" in line
        )
        raise RequestError(
            "the file needs rsft",
            f"{source}:{line}",
            "use TorchGeo or the standard library",
        )
    return _HEADER + text


if __name__ == "__main__":
    with explained_errors():
        typer.run(main)
