"""Print the lowest version that pyproject.toml allows of each dependency, as a constraints file for pip.

    python -m tools.maintenance.lowest_bounds --keep torch --keep torchvision >
    lowest.txt

`make test-lowest` installs these versions and runs the tests. The tool needs the
standard library alone, because it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from collections.abc import Collection, Iterable
from pathlib import Path

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"

_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?:\[[^]]*\])?\s*(?P<bounds>[^;]*)")
_LOWEST = re.compile(r">=\s*([\w.]+)")


def lowest_versions(
    requirements: Iterable[str], keep: Collection[str] = ()
) -> dict[str, str]:
    """Return the lowest version of each requirement that has one.

    Args:
        requirements: requirements such as "timm>=1.0.9" or "ray[data]>=2.40;
            python_version < '3.13'".
        keep: names to leave out.

    Returns:
        Version by name; the highest one, if several requirements name a package.

    Raises:
        ValueError: a requirement is not of this form.
    """
    versions: dict[str, str] = {}
    for requirement in requirements:
        match = _REQUIREMENT.match(requirement)
        if match is None:
            raise ValueError(f"{requirement!r} is no requirement")
        lowest = _LOWEST.search(match["bounds"])
        if lowest and match["name"] not in keep:
            versions[match["name"]] = max(
                versions.get(match["name"], "0"), lowest[1], key=_version_key
            )
    return versions


def project_requirements(pyproject: Path = PYPROJECT) -> list[str]:
    """Return the requirements of a project and of all its extras, without those that name another extra of it.

    Args:
        pyproject: its pyproject.toml.
    """
    project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
    requirements = list(project["dependencies"])
    for extra in project.get("optional-dependencies", {}).values():
        requirements += [
            requirement
            for requirement in extra
            if not requirement.startswith(f"{project['name']}[")
        ]
    return requirements


def _version_key(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Print the lowest allowed version of each dependency."
    )
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        help="Name of a package without a constraint.",
    )
    for name, lowest_version in sorted(
        lowest_versions(project_requirements(), parser.parse_args().keep).items()
    ):
        print(f"{name}=={lowest_version}")
