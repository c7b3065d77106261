"""Describe a bundle as texts and as an HTML page. This module does not import QGIS."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import Any


def bundle_texts(description: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts that the algorithm has as outputs.

    Args:
        description: what `rsft bundle show --json` prints.

    Returns:
        NAME, CLASSES (separated by commas), BANDS, UNIT, SIZE and SPACING.
    """
    chip = description.get("chip", {})
    texts = {
        key.upper(): str(chip.get(key, ""))
        for key in ("bands", "unit", "size", "spacing")
    }
    classes = ", ".join(str(row["name"]) for row in description.get("classes", []))
    return {"NAME": str(description.get("name", "")), "CLASSES": classes, **texts}


def chip_side(description: Mapping[str, Any]) -> int | None:
    """Return the side of the chips in pixels; None if the model takes whole chips of any size.

    Args:
        description: what `rsft bundle show --json` prints.
    """
    found = re.match(r"the central (\d+) x ", bundle_texts(description)["SIZE"])
    if found:
        return int(found[1])
    return None


def bundle_page(description: Mapping[str, Any]) -> str:
    """Return an HTML page: classes, what a chip must be, backbone, licenses, what the class sets promise.

    Args:
        description: what `rsft bundle show --json` prints.
    """
    classes = [
        [row["name"], row.get("group") or "", row.get("train")]
        for row in description.get("classes", [])
    ]
    confidence = description.get("confidence") or {}
    model_rows = [
        ["backbone", description.get("backbone", {}).get("name", "")],
        [
            "class sets",
            confidence.get("promise") or "none: the bundle is not calibrated",
        ],
        *(
            [f"license: {row.get('source', '')}", _license(row)]
            for row in description.get("licenses", [])
        ),
        ["folder", description.get("folder", "")],
        ["SHA-256", description.get("sha256", "")],
        ["rsft", description.get("rsft_version", "")],
    ]
    return (
        "<!DOCTYPE html>\n<html><head><meta"
        f' charset="utf-8"><title>{escape(str(description.get("name")))}</title>'
        "<style>body{font:14px sans-serif;margin:1em}td,th{text-align:left;padding:.2em"
        " 1em .2em 0;"
        "vertical-align:top}</style></head><body>"
        f"<h1>{escape(str(description.get('name', '')))}</h1>"
        f"<h2>Classes</h2>{_table(classes, ['class', 'group', 'training chips'])}"
        "<h2>What a scene must"
        f" be</h2>{_table(list(map(list, description.get('chip', {}).items())))}"
        f"<h2>Model</h2>{_table(model_rows)}</body></html>\n"
    )


def _license(row: Mapping[str, Any]) -> str:
    restrictions = row.get("restrictions") or []
    if isinstance(restrictions, list):
        limits = ", ".join(map(str, restrictions))
    else:
        limits = str(restrictions)
    return f"{row.get('name', '')}: {row.get('license', '')}" + (
        f" ({limits})" if limits else ""
    )


def _table(rows: list[list[Any]], header: list[str] | None = None) -> str:
    if header:
        head = "<tr>" + "".join(f"<th>{escape(text)}</th>" for text in header) + "</tr>"
    else:
        head = ""
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table>{head}{body}</table>"
