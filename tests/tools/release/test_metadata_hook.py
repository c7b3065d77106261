"""The readme of the package has no link that depends on the folder of the
repository."""

import re

import pytest

from tests.helpers.style import ROOT
from tools.release.metadata_hook import (
    REPOSITORY_VARIABLE,
    PackageMetadata,
    package_readme,
    package_urls,
)

PAGE = """[a](docs/a.md#b), ![a map](docs/map.png), [out](https://example.org/x), [here](#part)
| ![two](a.png) | `[code](b.md)` |
```
[code](c.md)
```
"""
CODE = "| `[code](b.md)` |\n```\n[code](c.md)\n```\n"


def test_links_point_to_the_repository_or_become_texts():
    text = package_readme(PAGE, "https://example.org/o/r", "v1")
    first, *others = text.splitlines(keepends=True)
    assert (
        first == "[a](https://example.org/o/r/blob/v1/docs/a.md#b), ![a"
        " map](https://example.org/o/r/raw/v1/docs/map.png),"
        " [out](https://example.org/x), [here](#part)\n"
    )
    assert "".join(others) == "| ![two](https://example.org/o/r/raw/v1/a.png) " + CODE
    first, *others = package_readme(PAGE, "", "v1").splitlines(keepends=True)
    assert first == "a, *a map*, [out](https://example.org/x), [here](#part)\n"
    assert "".join(others) == "| *two* " + CODE


@pytest.mark.parametrize("repository", ["", "https://example.org/o/r/"])
def test_the_metadata_of_this_package(monkeypatch, repository):
    monkeypatch.setenv(REPOSITORY_VARIABLE, repository)
    metadata = {"name": "rsft", "version": "1.2"}
    PackageMetadata(str(ROOT), {}).update(metadata)
    links = re.findall(r"\]\(([^)]+)\)", metadata["readme"]["text"])
    assert links and all(link.startswith("https://") for link in links)
    assert any("/raw/v1.2/docs/" in link for link in links) == bool(repository)
    assert metadata["urls"] == package_urls(
        "https://example.org/o/r" if repository else ""
    )
