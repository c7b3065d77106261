"""Fill the HTML templates of the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from rsft.evaluation.report.terms import Terms
from rsft.utils.atomic_files import write_text


def write_page(path: Path, template: str, content: Mapping[str, Any]) -> Path:
    """Fill a template, and write the page atomically.

    Args:
        path: path of the page.
        template: name of a file in assets/.
        content: the variables of the template.

    Returns:
        `path`.
    """
    environment = Environment(
        loader=PackageLoader("rsft.evaluation.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    terms = Terms()
    environment.globals |= {"term": terms.term, "used_terms": terms.used}
    environment.filters["terms"] = terms.mark
    write_text(path, environment.get_template(template).render(content))
    return path
