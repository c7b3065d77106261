"""Keep a command that reads foreign files inside a fence, see security.md.

It reads and writes what its arguments name; `Access` says what it does with each one.
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
from rsft.utils.command_options import Access
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
_PRODUCT_FOLDERS = ("measurement", "IMAGEDATA", "imagery", "metadata")
"""Folders with images of a product, whose header lies in the folder above or below
that."""
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
_READS = Access.READ | Access.BUNDLE | Access.OBJECTS


def close_fence(command: str, files: Mapping[Access, Collection[Any]]) -> None:
    """Let this process read, write and contact only what a command needs.

    RSFT_FENCE=off, or a kernel without Landlock, leaves one limit: GDAL and rsft ask no
    server that no argument names.

    Readable are the interpreter, the packages, libraries of the system, and the named
    files and folders. With a named file, its folder is readable, since it contains the
    files beside it. Writable are the folders of the named outputs, rsft's cache, the
    folder for temporary files, and for `rsft prepare` that of the list of chip stores.
    TCP connections are allowed if an argument names a server.

    Args:
        command: its name, for messages.
        files: values of its parameters by what it does with them.

    Raises:
        RequestError: a link in a named folder leads to a file or folder that no
            argument names, other threads run already, or the kernel refuses the limits.
    """
    inputs = _list_texts(files, _READS)
    asks_servers = any(_list_values(files, Access.ONLINE)) or not all(
        _list_values(files, Access.OFFLINE)
    )
    connects = asks_servers or any(map(_names_server, inputs))
    (allow_servers if connects else refuse_servers)()
    if OFF:
        return
    named = {*TRUSTED, *map(Path.resolve, TRUSTED)}
    for text in inputs:
        named.update(_find_inputs(text))
    for text in _list_texts(files, Access.READ | Access.OBJECTS):
        _check_links(text, named)
    readable = [*_interpreter(), *named]
    for text in _list_texts(files, Access.OBJECTS):
        readable += _class_names(text)
    for text in _list_texts(files, Access.BUNDLE):
        readable += _weights(text)
    writable = [*_writable_everywhere(asks_servers), *_find_outputs(files)]
    try:
        if fence_version() and len(list(Path("/proc/self/task").iterdir())) > 1:
            message = "other threads run already, such as those of a debugger"
            raise OSError(EBUSY, message)
        if not enter_fence(readable, writable, connects=connects):
            text = "this system has no fence (security.md); RSFT_FENCE=off hides this"
            _log.warning("%s: %s line", command, text)
    except OSError as error:
        message = f"the fence cannot be closed: {error.strerror}"
        raise RequestError(message, command, "set RSFT_FENCE=off") from error


def _list_values(files: Mapping[Access, Collection[Any]], access: Access) -> list[Any]:
    """Return the values of all parameters with any of the given accesses."""
    values: list[Any] = []
    for kind, some in files.items():
        if kind & access:
            values += some
    return values


def _list_texts(files: Mapping[Access, Collection[Any]], access: Access) -> list[str]:
    values = _list_values(files, access)
    return [os.fspath(x) for x in values if isinstance(x, str | os.PathLike)]


def _find_outputs(files: Mapping[Access, Collection[Any]]) -> Iterator[Path]:
    """Yield what a command writes, and the folders in which it is made."""
    outputs = list(map(Path, _list_texts(files, Access.WRITE)))
    if Access.STORE & _union(files):
        yield make_notes_folder()
    if not outputs:
        for path in map(Path, _list_texts(files, Access.BESIDE)):
            outputs += [path, path.resolve().parent / "x"]
    for path in outputs:
        folder = path.absolute().parent
        yield path
        yield next(x for x in (folder, *folder.parents) if x.exists())


def _union(accesses: Iterable[Access]) -> Access:
    union = Access(0)
    for access in accesses:
        union |= access
    return union


def _writable_everywhere(asks_servers: bool) -> Iterator[Path]:
    """Yield devices, caches and the folders for temporary files.

    The caches are made here: a rule of the fence needs a folder that exists.
    """
    yield Path("/dev")
    yield Path.home() / ".nv"
    yield Path(tempfile.gettempdir())
    yield Path("/var/tmp")  # SQLite sorts many rows there
    caches = [user_cache_path(name) for name in _CACHES]
    caches.append(Path(os.environ.get("MPLCONFIGDIR") or user_cache_path("matplotlib")))
    if asks_servers:
        caches.append(Path.home() / ".ray")
        caches.append(Path(os.environ.get("HF_HOME") or user_cache_path("huggingface")))
    for path in caches:
        with suppress(OSError):  # a home that is read-only, or missing
            path.mkdir(parents=True, exist_ok=True)
        yield path


def _interpreter() -> Iterator[Path]:
    """Yield the interpreter, the packages, the system, and the settings of the user."""
    yield from map(Path, _SYSTEM)
    yield from (
        Path(sys.prefix),
        Path(sys.base_prefix),
        Path(sys.executable).resolve().parent,
    )
    folders = sys.path
    if not sys.flags.safe_path and Path(sys.path[0]).absolute() == Path.cwd():
        folders = sys.path[1:]
    yield from map(Path, folders)
    spec = find_spec("rsft")
    yield from map(Path, spec.submodule_search_locations or () if spec else ())
    yield user_config_path("matplotlib")
    # grids, without which PROJ takes a less accurate transformation
    yield user_data_path("proj")
    yield Path.home() / ".aws"  # credentials that a user has for GDAL
    weights = os.environ.get("RSFT_WEIGHTS")
    if weights:
        yield Path(weights)


def _weights(bundle: str) -> Iterator[Path]:
    """Yield the weights that a recipe of a bundle names, and files of the same stem.

    The exports beside the bundle are readable as well.
    """
    exports = Path(bundle).absolute().parent / "exports"
    if not exports.is_symlink():
        yield exports
    for pattern in ("recipe.yaml", "bundle/recipe.yaml", "*/bundle/recipe.yaml"):
        for recipe in Path(bundle).glob(pattern):
            with suppress(RsftError, OSError, ValueError):
                text = read_regular_text(recipe, _MAX_RECIPE_BYTES)
                for name in _WEIGHTS.findall(text):
                    path = Path(name.strip()).expanduser().absolute()
                    if path.suffix in _WEIGHT_SUFFIXES and path.is_file():
                        yield from path.parent.glob(f"{path.stem}.*")


def _class_names(text: str) -> Iterator[Path]:
    """Yield the files that may name the classes of YOLO labels.

    Links are left out, since they may lead anywhere.
    """
    path = Path(text).absolute()
    for folder in (path, *path.parents)[: CLASS_NAME_LEVELS + (not path.is_dir())]:
        for name in CLASS_NAME_FILES:
            file = folder / name
            if not file.is_symlink():
                yield file


def _names_server(text: str) -> bool:
    """Return whether an argument is an address, or an item with files on servers."""
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
    try:
        if not path.exists():
            for number, part in enumerate(path.parts):
                if set(part) & set("*?["):
                    path = Path(*path.parts[:number])
                    break
        yield from _with_neighbors(path)
    except (OSError, ValueError):  # no name of a file
        return


def _check_links(text: str, named: Collection[Path]) -> None:
    """Raise an error if a named folder contains a link to what no argument names.

    Links to folders and images count. The content of a folder may be a stranger's, so a
    link in it opens nothing. It is no reason to leave chips out either.

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
    """Yield the links to folders and images in a folder and those below.

    No list of names is kept, which may be long. Links to nothing are left out: they are
    reported where they are read.
    """
    folders = [folder]
    while folders:
        with suppress(OSError, ValueError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if not entry.is_symlink():
                    if entry.is_dir():
                        folders.append(entry.path)
                elif _leads_to_images(Path(entry)):
                    yield Path(entry)


def _leads_to_images(link: Path) -> bool:
    """Return whether a link leads to a folder, or as an image to a file."""
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
    folders = [path.absolute().parent, path.resolve().parent]
    if path.parent.name in _PRODUCT_FOLDERS:
        folders += [folder.parent for folder in folders]
    stem = path.name.partition(".")[0]
    for folder in dict.fromkeys(folders):
        if not Path.home().is_relative_to(folder):
            yield folder
            continue
        for neighbor in folder.iterdir():
            if neighbor.name.partition(".")[0] == stem:
                yield neighbor
