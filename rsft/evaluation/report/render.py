"""Pages out of templates, whole and self-contained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from rsft.utils.atomic_files import write_text


def write_page(path: Path, template: str, content: Mapping[str, Any]) -> Path:
    """Fill a template of assets/ and write it, whole or not at all; returns `path`."""
    environment = Environment(
        loader=PackageLoader("rsft.evaluation.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    write_text(path, environment.get_template(template).render(content))
    return path
