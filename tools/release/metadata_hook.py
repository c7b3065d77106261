"""Make the readme of the package page, and its links, for the repository that a release comes from.

hatchling loads this file at every build. The environment variable RSFT_REPOSITORY_URL
names the repository. Relative links and pictures of README.md then point to it, at the
tag of the version. Without the variable, the package has no links, and its readme has
texts in place of relative links and pictures.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

REPOSITORY_VARIABLE = "RSFT_REPOSITORY_URL"
"""Environment variable with the address of the repository. Releases set it, see
.github/workflows/release.yml."""

_LINK = re.compile(r"(!?)\[([^]]*)\]\((?!https?://|#)([^)\s]+)\)")
_CODE = re.compile(r"(^```.*?^```$|`[^`\n]*`)", re.MULTILINE | re.DOTALL)


class PackageMetadata(MetadataHookInterface):
    """Sets `readme` and `urls` of the package."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `readme` and `urls`.

        Args:
            metadata: the table `project` of pyproject.toml, changed in place. `version`
                is set already.
        """
        repository = os.environ.get(REPOSITORY_VARIABLE, "").rstrip("/")
        text = Path(self.root, "README.md").read_text("utf-8")
        readme = package_readme(text, repository, f"v{metadata['version']}")
        metadata["readme"] = {"content-type": "text/markdown", "text": readme}
        metadata["urls"] = package_urls(repository)


def package_readme(text: str, repository: str, tag: str) -> str:
    """Return a page whose links do not depend on the folder in which it lies.

    Args:
        text: Markdown.
        repository: address of the repository; "" for no links.
        tag: tag or branch that the links point to.

    Returns:
        Markdown with absolute links, or with the texts of the links if `repository` is
        empty.
    """

    def replace_link(match: re.Match[str]) -> str:
        picture, words, path = match.groups()
        if not repository:
            if picture:
                return f"*{words}*"
            return words
        return f"{picture}[{words}]({repository}/{'raw' if picture else 'blob'}/{tag}/{path})"

    parts = _CODE.split(text)  # code at odd places
    return "".join(
        part if index % 2 else _LINK.sub(replace_link, part)
        for index, part in enumerate(parts)
    )


def package_urls(repository: str) -> dict[str, str]:
    """Return the links of the package page.

    Args:
        repository: address of the repository; "" for no links.

    Returns:
        Label -> address.
    """
    if not repository:
        return {}
    pages = {
        "Documentation": "tree/HEAD/docs",
        "Changelog": "blob/HEAD/CHANGELOG.md",
        "Issues": "issues",
    }
    return {"Source": repository} | {
        label: f"{repository}/{path}" for label, path in pages.items()
    }
