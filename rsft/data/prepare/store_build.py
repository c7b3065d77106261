"""What the commands of all data sets share: the text of the command, and its store."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from rsft.data.prepare.registry import format_prepare_command
from rsft.errors import DataError, RequestError
from rsft.utils.licenses import UNKNOWN
from rsft.utils.operating_system import available_cores

if TYPE_CHECKING:
    from rsft.data.chips.record import ChipRecord, StoreDescription
    from rsft.data.chips.store import ChipStore
    from rsft.types import Progress

P = ParamSpec("P")

PROCESSES = min(4, len(available_cores()))
"""Number of processes that prepare chips. Each may keep a large image in memory."""

_NO_OPTIONS = ("root", "jobs", "overwrite", "progress")
"""Parameters that do not change the chips of a store."""


@dataclass(frozen=True)
class StoreBuild:
    """The build of one chip store.

    Attributes:
        name: name of the data set's command.
        root: folder of the store.
        options: values of the other options by name, in the order of the command.
        sources: the arguments of the command; the first is its source.
        jobs: number of worker processes.
    """

    name: str
    root: Path
    options: Mapping[str, object]
    sources: Sequence[Path | str] = ()
    overwrite: bool = False
    progress: Progress | None = None
    jobs: int = 1

    @property
    def command(self) -> str:
        """The command that builds the same store again."""
        options = {"root": self.root, **self.options}
        return format_prepare_command(self.name, *self.sources, **options)

    @property
    def source_path(self) -> Path:
        """The source as a path."""
        return Path(self.sources[0])

    def open_source(self) -> AbstractContextManager[Path]:
        """Open the source with its archives extracted, see `open_source_tree`."""
        from rsft.utils.source_tree import open_source_tree

        return open_source_tree(self.source_path, self.root, self.progress)

    def find_finished(self) -> ChipStore | None:
        """Return the store if the same command has built it, see `find_finished_store`.

        Raises:
            RequestError: the folder contains something else.
        """
        from rsft.data.chips.builder import find_finished_store

        return find_finished_store(self.root, self.command, self.overwrite)

    def write(
        self,
        records: Iterable[ChipRecord],
        description: StoreDescription,
        total: int = 0,
        finish: Callable[[ChipStore], None] | None = None,
    ) -> ChipStore:
        """Build the store, see `build_store`."""
        from rsft.data.chips.builder import build_store

        return build_store(
            self.root,
            records,
            description,
            total=total,
            overwrite=self.overwrite,
            progress=self.progress,
            jobs=self.jobs,
            finish=finish,
        )


def builds_store(
    name: str,
) -> Callable[
    [Callable[Concatenate[StoreBuild, P], ChipStore]], Callable[P, ChipStore]
]:
    """Give a data set its build; decorate the function below `data_set`.

    The first argument of the function is the build. If the data set is an archive of
    `list_archives`, its source is searched for. If the same command has built the store
    already, it is returned as it is.

    Args:
        name: name of the data set's command.
    """

    def decorate(
        function: Callable[Concatenate[StoreBuild, P], ChipStore],
    ) -> Callable[P, ChipStore]:
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())[1:]
        signature = signature.replace(parameters=parameters)

        @functools.wraps(function)
        def prepare(*args: P.args, **kwargs: P.kwargs) -> ChipStore:
            call = signature.bind(*args, **kwargs)
            call.apply_defaults()
            build = _make_build(name, call.arguments)
            return build.find_finished() or function(build, *call.args, **call.kwargs)

        vars(prepare)["__signature__"] = signature
        return prepare

    return decorate


def _make_build(name: str, arguments: dict[str, Any]) -> StoreBuild:
    """Return the build of a call, whose root and source are changed to those found."""
    from rsft.data.datasets.archive_search import locate_sources
    from rsft.data.datasets.published_archives import list_archives

    first = next(iter(arguments))
    root = arguments["root"]
    for archive in list_archives():
        if archive.command == name:
            sources = {archive: arguments[first]}
            root, located = locate_sources(root, sources, arguments["overwrite"])
            arguments |= {"root": root, first: located[archive]}
    options = {
        key: value
        for key, value in arguments.items()
        if key not in (first, *_NO_OPTIONS) and value != UNKNOWN
    }
    return StoreBuild(
        name,
        root,
        options,
        tuple(filter(None, [arguments[first]])),
        arguments["overwrite"],
        arguments["progress"],
        arguments.get("jobs", 1),
    )


def check_choice(value: object, option: str, allowed: Collection[object]) -> None:
    """Raise RequestError if the value of an option is not an allowed one."""
    if value not in allowed:
        raise RequestError(
            f"unknown value {value}",
            option,
            f"choose one of {', '.join(map(str, allowed))}",
        )


def parse_unit_option(text: str) -> str:
    """Return the unit that the option --unit names.

    Raises:
        RequestError: the text is no unit.
    """
    from rsft.data.imagery.units import parse_unit

    try:
        return parse_unit(text)
    except DataError as error:
        raise RequestError(
            error.message, "--unit", "correct the name of the unit"
        ) from error
