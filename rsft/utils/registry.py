"""Components by name: those of rsft, and those that other installed packages provide.

A component is one class or function with a `name`: a PEFT method, loss, sampler,
engine, tracker, data set, product of a sensor or format of annotations. A package makes
its own known through an entry point, and recipes, `--help` and reports then treat it
like one of rsft's:

    [project.entry-points."rsft.peft_methods"]
    my_method = "my_package.my_module:MyMethod"

The plug-ins that come with rsft do the same in their file plugin.toml, see
`rsft.plugins`. Within a running process, `Registry.register` does the same.
"""

from __future__ import annotations

import pkgutil
import sys
import tomllib
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from rsft.types import Names


PLUGINS = Path(__file__).parents[1] / "plugins"
"""One folder per plug-in that comes with rsft, with a file plugin.toml."""


class Named(Protocol):
    """A component: its class is registered under `name`."""

    name: ClassVar[str]


C = TypeVar("C", bound=type[Named])


class UnknownComponentError(KeyError):
    """No component has this name."""

    def __str__(self) -> str:
        """Return the message without the quotes that `KeyError` adds."""
        return str(self.args[0])


class Registry(Generic[C]):
    """Find components of one kind by name.

    The built-in components are the registered classes of one module, or of all modules
    of one package. They are imported when the registry is first used, so a registry
    costs nothing at start-up. A component of another package is imported when its own
    name is first looked up.

    Args:
        kind: what a component is called in messages, such as "PEFT method".
        group: the entry-point group in which other packages list theirs, such as
            "rsft.peft_methods".
        builtin: the module or package that registers rsft's own. A package may list in
            `__all__` which modules do so, in the order in which `names` returns their
            components.
    """

    def __init__(self, kind: str, group: str, builtin: str) -> None:
        self.kind = kind
        self.group = group
        self._builtin = builtin
        self._components: dict[str, C] = {}
        self._imported = False

    def register(self, component: C) -> C:
        """Make a class known under its `name`. Use as a decorator.

        Raises:
            ValueError: another class has the name already.
        """
        name = component.name
        current = self._components.get(name)
        if current and _path_of(current) != _path_of(component):
            raise ValueError(
                f"the {self.kind} {name!r} is registered already, by"
                f" {_path_of(current)}"
            )
        self._components[name] = component
        return component

    def names(self) -> Names:
        """Return all names: rsft's own in the order of definition come first."""
        self._import_builtin()
        points = entry_points_of(self.group)
        registered = [name for name in self._components if name not in points]
        return (*registered, *points)

    def __getitem__(self, name: str) -> C:
        """Return the class called `name`.

        Raises:
            UnknownComponentError: no package provides it.
            ImportError: a package provides it but cannot be imported.
        """
        self._import_builtin()
        if name not in self._components:
            points = entry_points_of(self.group)
            if name not in points:
                raise UnknownComponentError(
                    f"unknown {self.kind} {name!r}; known: {', '.join(self.names())}"
                )
            component: C = points[name].load()
            if component.name != name:
                raise ImportError(
                    f"entry point {name!r} of {self.group} loads a class named"
                    f" {component.name!r}"
                )
            self.register(component)
        return self._components[name]

    def usable(self, names: Iterable[str]) -> Iterator[C]:
        """Yield the classes called `names`; a warning names what cannot be imported."""
        for name in names:
            try:
                yield self[name]
            except ImportError as error:
                message = f"the {self.kind} {name} cannot be imported: {error}"
                warnings.warn(message, stacklevel=3)

    def __contains__(self, name: object) -> bool:
        """Return whether a package provides `name`, without importing the package."""
        return name in self.names()

    def __iter__(self) -> Iterator[str]:
        """Iterate over all names."""
        return iter(self.names())

    def _import_builtin(self) -> None:
        if self._imported:
            return
        self._imported = True
        module = import_module(self._builtin)
        names = [
            info.name for info in pkgutil.iter_modules(getattr(module, "__path__", []))
        ]
        listed = getattr(module, "__all__", names)
        submodules = [f"{self._builtin}.{name}" for name in listed if name in names]
        for submodule in submodules:
            import_module(submodule)
        # not in the order of import; those of other modules are last
        ordered = {}
        for name in (self._builtin, *submodules):
            for component in self._components.values():
                if component.__module__ == name:
                    ordered[component.name] = component
        self._components = ordered | self._components


def entry_points_of(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name: those of rsft's plug-ins first."""
    return _entry_points_of(group, tuple(sys.path))


@cache
def _entry_points_of(group: str, search_path: Names) -> dict[str, EntryPoint]:
    from importlib.metadata import EntryPoint

    points = {}
    for file in sorted(PLUGINS.glob("*/plugin.toml")):
        groups = tomllib.loads(file.read_text("utf-8"))["entry-points"]
        for name, value in groups.get(group, {}).items():
            points[name] = EntryPoint(name, value, group)
    for point in _read_installed_entry_points(search_path).select(group=group):
        points.setdefault(point.name, point)
    return points


@cache
def _read_installed_entry_points(search_path: Names) -> Any:
    """Return the entry points of all installed packages.

    They are read once: this takes some 10 ms, for one group as for all.
    """
    from importlib.metadata import entry_points

    return entry_points()  # their class differs before Python 3.12


def _path_of(component: type) -> str:
    return f"{component.__module__}.{component.__qualname__}"
