"""Write constraints.txt: the versions of all packages with which the tests ran, for `pip install --constraint`.

    python -m tools.release.constraints

Run it in the environment of `make test` and `make docs`, after both passed. It lists
what rsft and its extras need, directly or not, without the packages of other projects
in the environment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from tools.maintenance.lowest_bounds import project_requirements

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
_HEADER = (
    "# Versions with which the tests passed: python -m tools.release.constraints\n"
)


def package_name(name: str) -> str:
    """Return the normalized name of a package, such as "pyyaml" for "PyYAML"."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed_versions() -> dict[str, str]:
    """Return the installed version of every package that rsft or one of its extras needs, by normalized name."""
    versions: dict[str, str] = {}
    pending = [Requirement(text) for text in project_requirements()]
    visited: set[tuple[str, frozenset[str]]] = set()
    while pending:
        requirement = pending.pop()
        key = package_name(requirement.name), frozenset(requirement.extras)
        package = _find(requirement.name)
        if package is None or key in visited:
            continue
        visited.add(key)
        versions[key[0]] = package.version.partition("+")[0]
        pending += _needs(package, requirement.extras)
    return dict(sorted(versions.items()))


def read_constraints(path: Path = CONSTRAINTS) -> dict[str, str]:
    """Return the version of each package in a constraints file.

    Args:
        path: the file.
    """
    lines = path.read_text("utf-8").splitlines()
    return dict(
        line.split("==", 1) for line in lines if line and not line.startswith("#")
    )


def _find(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:  # of another system, or an extra that is not installed
        return None


def _needs(package: Distribution, extras: set[str]) -> Iterator[Requirement]:
    for text in package.requires or ():
        requirement = Requirement(text)
        environments = [{"extra": extra} for extra in ("", *extras)]
        if requirement.marker is None or any(
            map(requirement.marker.evaluate, environments)
        ):
            yield requirement


def main() -> None:
    """Write constraints.txt."""
    lines = [f"{name}=={version}\n" for name, version in installed_versions().items()]
    CONSTRAINTS.write_text(_HEADER + "".join(lines), "utf-8")


if __name__ == "__main__":
    main()
