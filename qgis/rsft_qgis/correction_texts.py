"""Describe what became of corrected labels, and what a correction changed.

This module does not import QGIS.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from .json_lines import Result

_HEADER = ("class", "chips", "recall before", "recall after", "gained", "lost", "p")
_LEFT_OUT = {
    "unchanged": "in the store already, with this class",
    "repeated": "the same chip as an earlier row",
    "unsure": "unsure",
    "not_a_target": "not a target",
    "not_looked_at": "not looked at",
}


def addition_lines(result: Result) -> list[str]:
    """Return what became of the rows of a corrected layer, in sentences.

    Args:
        result: the last line of `rsft data add`.
    """
    rows = [row for row in result.fields.get("classes") or [] if isinstance(row, dict)]
    lines = [
        f"added: {row.get('chips')} {row.get('class')} to {row.get('split')}"
        for row in rows
    ]
    changes = [
        row for row in result.fields.get("changes") or [] if isinstance(row, dict)
    ]
    lines += [
        f"relabeled: {row.get('chips')}, {row.get('from')} is now {row.get('to')}"
        for row in changes
    ]
    lines += [
        f"{text}: {result.count(key)}"
        for key, text in _LEFT_OUT.items()
        if result.count(key)
    ]
    return [*lines, *result.notes] or ["the layer has no rows"]


def rejection_lines(result: Result, most: int = 10) -> list[str]:
    """Return why rows were rejected.

    Args:
        result: the last line of `rsft data add`.
        most: number of reasons to return; the others are counted.
    """
    reasons = [
        row for row in result.fields.get("reasons") or [] if isinstance(row, dict)
    ]
    lines = [
        f"row {row.get('line')} rejected: {row.get('reason')}" for row in reasons[:most]
    ]
    return lines + ([f"and {len(reasons) - most} more"] if len(reasons) > most else [])


def read_replay(result: Result) -> dict[str, Any]:
    """Return the replay check that `rsft finetune --from` wrote; empty if there is none.

    Args:
        result: the last line of `rsft finetune`.
    """
    path = result.fields.get("replay")
    try:
        if path:
            content = json.loads(Path(str(path)).read_text(encoding="utf-8"))
        else:
            content = {}
    except (OSError, ValueError):
        return {}
    if isinstance(content, dict):
        return content
    return {}


def start_bundle(result: Result) -> str:
    """Return the folder of the bundle at which a run started; empty if the run does not say.

    Args:
        result: the last line of `rsft finetune`.
    """
    try:
        run = json.loads(
            (Path(str(result.fields.get("run"))) / "run.json").read_text(
                encoding="utf-8"
            )
        )
        return str(run["start"]["bundle"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def replay_lines(replay: Mapping[str, Any]) -> list[str]:
    """Return the replay check as lines of a log.

    Args:
        replay: content of replay.json.
    """
    lines = []
    for part in replay.get("parts") or []:
        lines.append(f"{part['name']}: {', '.join(_HEADER)}")
        lines += [f"  {', '.join(cells)}" for cells in map(_cells, part["classes"])]
    return lines + [str(text) for text in replay.get("sentences") or []]


def replay_page(replay: Mapping[str, Any], bundle: str, old: str = "") -> str:
    """Return an HTML page with one table per part of the replay check.

    Args:
        replay: content of replay.json; may be empty.
        bundle: folder of the new bundle.
        old: folder of the bundle at which the run started; may be empty.
    """
    body = [f"<h1>New bundle</h1><p>{escape(bundle)}</p>"]
    body += [f"<p>The old bundle, to keep using it: {escape(old)}</p>"] if old else []
    terms = replay.get("terms") or {}
    meanings = "".join(
        f"<dt><b>{escape(term)}</b></dt><dd>{escape(text)}</dd>"
        for term, text in terms.items()
    )
    body += [f"<dl>{meanings}</dl>"] if meanings else []
    for part in replay.get("parts") or []:
        head = "".join(f"<th>{escape(name)}</th>" for name in _HEADER)
        rows = (
            "".join(f"<td>{escape(cell)}</td>" for cell in _cells(item))
            for item in part["classes"]
        )
        table = "".join(f"<tr>{row}</tr>" for row in (head, *rows))
        body.append(
            f"<h2>Replay check: {escape(str(part['name']))}</h2><table>{table}</table>"
        )
    body += [
        f"<p>{escape(str(text))}</p>"
        for text in replay.get("sentences") or ["The run has no replay check."]
    ]
    return (
        '<!DOCTYPE html>\n<html><head><meta charset="utf-8"><title>New bundle</title>'
        "<style>body{font:14px sans-serif;margin:1em}td,th{text-align:left;padding:.2em"
        " 1em .2em 0}</style></head>"
        f"<body>{''.join(body)}</body></html>\n"
    )


def _cells(item: Mapping[str, Any]) -> list[str]:
    if item.get("before") is None:
        before = "new class"
    else:
        before = f"{100 * item['before']:.1f} %"
    counts = (str(item.get(key)) for key in ("gained", "lost"))
    return [
        str(item["name"]),
        str(item["chips"]),
        before,
        f"{100 * item['after']:.1f} %",
        *counts,
        f"{item['p']:.2g}",
    ]
