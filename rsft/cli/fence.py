"""Keep a command that reads foreign files inside a fence: it reads and writes what its arguments name, see security.md.

The fence closes before NumPy starts its threads, so this module imports nothing heavy.
"""

import logging
import os
import re
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from errno import EBUSY
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path, user_config_path, user_data_path

from rsft.data.annotations import CLASS_NAME_FILES, CLASS_NAME_LEVELS
from rsft.data.chips.store_notes import make_notes_folder
from rsft.errors import RequestError, RsftError
from rsft.utils.fence import OFF, TRUSTED, enter_fence, fence_version, outside_hint
from rsft.utils.remote_files import allow_servers, refuse_servers
from rsft.utils.untrusted.documents import read_regular, read_regular_text

_log = logging.getLogger(__name__)

_SYSTEM = (
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/bin",
    "/sbin",
    "/opt",
    "/nix/store",
    "/snap",
    "/proc",
    "/sys",
    "/run/systemd/resolve",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/mime.types",
    "/etc/fonts",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/passwd",
    "/etc/group",
    "/etc/alternatives",
    "/etc/os-release",
    "/etc/OpenCL",
)
_CACHES = ("rsft", "fontconfig")
_OUTPUTS = frozenset(("out", "root", "scene", "html", "page", "picture", "chips"))
"""Parameters that name what a command writes."""
_LABELS = ("at", "truth", "labels")
"""Parameters that name files of objects, whose classes may have their names in a folder
above."""
_PRODUCT_FOLDERS = ("measurement", "IMAGEDATA", "imagery", "metadata")
"""Folders with images of a product, whose header lies in the folder above or below
that."""
_DOWNLOADS = {
    "push": "out",
    "fusrs": "lists",
}  # commands that connect, unless this parameter names a folder
_MAX_RECIPE_BYTES = 2**20
_WEIGHTS = re.compile(r"""\bweights:[ \t]*['"]?([^'",}#\n]*/[^'",}#\n]*)""")
_WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_IMAGE_SUFFIXES = frozenset(
    (
        ".tif",
        ".tiff",
        ".png",
        ".jpg",
        ".jpeg",
        ".jp2",
        ".bmp",
        ".webp",
        ".img",
        ".ntf",
        ".nitf",
        ".nc",
        ".h5",
        ".hdf5",
    )
)
_BUNDLES = frozenset(("bundle", "also", "second"))
"""Parameters that name bundles, whose files are read by their names."""


def close_fence(command: str, parameters: Mapping[str, Any]) -> None:
    """Let this process read and write only what the parameters of a command name, and connect only if they say so.

    RSFT_FENCE=off, or a kernel without Landlock, leaves one limit: GDAL and rsft ask no
    server that no argument names.

    Readable are the interpreter, the packages, libraries of the system, and the named
    files and folders. With a named file, its folder is readable, since it contains the
    files beside it. Writable are the folders of the named outputs, rsft's cache, the
    folder for temporary files, and for `rsft prepare` that of the list of chip stores.
    TCP connections are allowed if an argument names a server.

    Raises:
        RequestError: a link in a named folder leads to a file or folder that no
            argument names, other threads run already, or the kernel refuses the limits.
    """
    texts = {name: list(_texts(value)) for name, value in parameters.items()}
    inputs = [
        text
        for name, values in texts.items()
        if name not in _OUTPUTS
        for text in values
    ]
    connects = command in _DOWNLOADS and not parameters[_DOWNLOADS[command]]
    connects |= any(
        bool(parameters.get(name)) for name in ("address", "ray", "download")
    ) or any(map(_names_server, inputs))
    (allow_servers if connects else refuse_servers)()
    if OFF:
        return
    named = {
        *TRUSTED,
        *map(Path.resolve, TRUSTED),
        *(path for text in inputs for path in _find_inputs(text)),
    }
    for name in texts.keys() - _OUTPUTS - _BUNDLES:
        for text in texts[name]:
            _check_links(text, named)
    readable = [*_interpreter(), *named]
    readable += [
        path
        for name in _LABELS
        for text in texts.get(name, ())
        for path in _class_names(text)
    ]
    readable += [
        path
        for name in _BUNDLES
        for text in texts.get(name, ())
        for path in _weights(text)
    ]
    outputs = _find_outputs(command, parameters, texts)
    try:
        if fence_version() and len(list(Path("/proc/self/task").iterdir())) > 1:
            raise OSError(
                EBUSY, "other threads run already, such as those of a debugger"
            )
        if not enter_fence(
            readable, _writable(command, outputs, parameters), connects=connects
        ):
            _log.warning(
                "%s: this system has no fence (security.md); RSFT_FENCE=off hides this"
                " line",
                command,
            )
    except OSError as error:
        raise RequestError(
            f"the fence cannot be closed: {error.strerror}",
            command,
            "set RSFT_FENCE=off",
        ) from error


def _find_outputs(
    command: str, parameters: Mapping[str, Any], texts: Mapping[str, list[str]]
) -> list[Path]:
    """Return the files and folders that a command writes; `texts` are the texts in its parameters, by name."""
    outputs = [
        Path(text) for name in _OUTPUTS.intersection(texts) for text in texts[name]
    ]
    if command == "sign" or (command in ("stac", "card") and not parameters["out"]):
        outputs += [
            folder
            for text in texts["bundle"]
            for folder in (Path(text), Path(text).resolve().parent / "x")
        ]
    if command == "audit":
        outputs += map(Path, texts["source"])
    if command == "from":
        outputs += [Path(text).with_name("bundle") for text in texts["checkpoint"]]
    if command == "torchgeo":  # TorchGeo extracts archives beside them
        outputs += map(Path, texts["data"])
    return outputs


def _writable(
    command: str, outputs: Iterable[Path], parameters: Mapping[str, Any]
) -> Iterator[Path]:
    """Yield the outputs, the folders in which they are made, devices, caches and the folder for temporary files.

    The caches are made here: a rule of the fence needs a folder that exists.
    """
    temporary = (
        Path(tempfile.gettempdir()),
        Path("/var/tmp"),
    )  # SQLite sorts many rows in the second one
    yield from (Path("/dev"), *temporary, Path.home() / ".nv")
    caches = [user_cache_path(name) for name in _CACHES]
    caches.append(Path(os.environ.get("MPLCONFIGDIR") or user_cache_path("matplotlib")))
    if parameters.get("address") or parameters.get("ray"):
        caches.append(Path.home() / ".ray")
    if "root" in parameters:  # `rsft prepare` notes the new store
        yield make_notes_folder()
    if command == "push":
        caches.append(Path(os.environ.get("HF_HOME") or user_cache_path("huggingface")))
    for path in caches:
        with suppress(OSError):  # a home that is read-only, or missing
            path.mkdir(parents=True, exist_ok=True)
        yield path
    for path in outputs:
        folder = path.absolute().parent
        yield from (
            path,
            next(parent for parent in (folder, *folder.parents) if parent.exists()),
        )


def _texts(value: Any) -> Iterator[str]:
    for item in value if isinstance(value, list | tuple) else [value]:
        if isinstance(item, str | os.PathLike):
            yield os.fspath(item)


def _interpreter() -> Iterator[Path]:
    """Yield the files of the interpreter, the packages and the system, and the settings of the user for them."""
    yield from map(Path, _SYSTEM)
    yield from (
        Path(sys.prefix),
        Path(sys.base_prefix),
        Path(sys.executable).resolve().parent,
    )
    has_working_directory = (
        not sys.flags.safe_path and Path(sys.path[0]).absolute() == Path.cwd()
    )
    yield from map(Path, sys.path[1:] if has_working_directory else sys.path)
    spec = find_spec("rsft")
    yield from map(Path, spec.submodule_search_locations or () if spec else ())
    yield user_config_path("matplotlib")
    yield user_data_path(
        "proj"
    )  # grids, without which PROJ takes a less accurate transformation
    yield Path.home() / ".aws"  # credentials that a user has for GDAL
    weights = os.environ.get("RSFT_WEIGHTS")
    if weights:
        yield Path(weights)


def _weights(bundle: str) -> Iterator[Path]:
    """Yield the weights of the encoder that a recipe of a bundle names, and the files of the same stem."""
    for pattern in ("recipe.yaml", "bundle/recipe.yaml", "*/bundle/recipe.yaml"):
        for recipe in Path(bundle).glob(pattern):
            with suppress(RsftError, OSError, ValueError):
                for name in _WEIGHTS.findall(
                    read_regular_text(recipe, _MAX_RECIPE_BYTES)
                ):
                    path = Path(name.strip()).expanduser().absolute()
                    is_checkpoint = path.suffix in _WEIGHT_SUFFIXES and path.is_file()
                    yield from (
                        path.parent.glob(f"{path.stem}.*") if is_checkpoint else ()
                    )


def _class_names(text: str) -> Iterator[Path]:
    """Yield the files that may name the classes of YOLO labels, but no links, which may lead anywhere."""
    path = Path(text).absolute()
    folders = (path, *path.parents)[: CLASS_NAME_LEVELS + (not path.is_dir())]
    yield from (
        file
        for folder in folders
        for name in CLASS_NAME_FILES
        if not (file := folder / name).is_symlink()
    )


def _names_server(text: str) -> bool:
    """Return whether an argument is an address, or a local STAC item with files on servers."""
    from rsft.data.imagery.scene_uri import SceneUri, names_servers

    is_list = text.startswith("@") and any(map(_names_server, _list_lines(text)))
    return is_list or SceneUri(text).is_remote or names_servers(Path(text))


def _list_lines(text: str) -> list[str]:
    """Return the inputs in a list that is named as "@path"."""
    try:
        lines = read_regular(Path(text[1:])).decode(errors="replace").splitlines()
    except (RsftError, OSError, ValueError):  # the command reports it
        return []
    return [line.strip() for line in lines if line.strip() and not line.startswith("@")]


def _find_inputs(text: str) -> Iterator[Path]:
    """Yield the paths that an argument names, and the folders of files."""
    from rsft.data.imagery.scene_uri import SceneUri

    if text.startswith("@"):
        yield from _with_neighbors(Path(text[1:]))
        for line in _list_lines(text):
            yield from _find_inputs(line)
    path = SceneUri(text).path
    if path is None:
        return
    parts = path.parts
    magic = next(
        (number for number, part in enumerate(parts) if set(part) & set("*?[")),
        len(parts),
    )
    try:
        yield from _with_neighbors(
            Path(*parts[:magic]) if magic < len(parts) and not path.exists() else path
        )
    except (OSError, ValueError):  # no name of a file
        return


def _check_links(text: str, named: Collection[Path]) -> None:
    """Raise an error if a folder that an argument names contains a link to a folder or image that no argument names.

    The content of a folder may be a stranger's, so a link in it opens nothing. It is no
    reason to leave chips out either.

    Args:
        text: the argument; a list names several folders.
        named: all named files and folders, with links resolved.

    Raises:
        RequestError: there is such a link.
    """
    for folder in _list_lines(text) if text.startswith("@") else [text]:
        for link in _find_links(folder):
            target = Path(os.path.realpath(link))
            if not any(path in named for path in (target, *target.parents)):
                raise RequestError(
                    f"the link leads to {target}, which no argument names",
                    link,
                    outside_hint(link),
                )


def _find_links(folder: str) -> Iterator[Path]:
    """Yield the links to folders and images in a folder and those below; no list of names is kept, which may be long.

    Links to nothing are left out: they are reported where they are read.
    """
    folders = [folder]
    while folders:
        with suppress(OSError, ValueError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if not entry.is_symlink():
                    folders += [entry.path] * entry.is_dir()
                elif _leads_to_images(Path(entry)):
                    yield Path(entry)


def _leads_to_images(link: Path) -> bool:
    """Return whether a link leads to a folder, or has the name of an image and leads to a file."""
    is_image = link.suffix.lower() in _IMAGE_SUFFIXES
    # The methods of a Path raise errors for names that are too long.
    return os.path.isdir(link) or (is_image and os.path.exists(link))  # noqa: PTH110, PTH112


def _with_neighbors(path: Path) -> Iterator[Path]:
    """Yield a folder, or a file and its folder.

    If the folder of a file contains the home of the user, only the files of the same
    stem are yielded.
    """
    if not path.exists():
        return
    yield from (path.resolve(), path.absolute())
    if path.is_dir():
        return
    levels = range(2 if path.parent.name in _PRODUCT_FOLDERS else 1)
    for folder in dict.fromkeys(
        x.parents[level] for level in levels for x in (path.absolute(), path.resolve())
    ):
        if Path.home().is_relative_to(folder):
            yield from (
                x
                for x in folder.iterdir()
                if x.name.partition(".")[0] == path.name.partition(".")[0]
            )
        else:
            yield folder
