"""Read JSON from untrusted sources."""

from __future__ import annotations

import json
from typing import Any

MAX_DEPTH = 100
"""Largest number of levels of lists and mappings in a JSON or YAML document."""

MAX_DIGITS = 1000
"""Largest number of digits of an integer in a JSON or YAML document."""


def parse_json(data: str | bytes, **options: Any) -> Any:
    """Parse JSON, with limits on its depth and its integers.

    Args:
        data: the document, in UTF-8 with or without a byte-order mark.
        options: further options of `json.loads`.

    Returns:
        Its content.

    Raises:
        ValueError: it is not JSON, or exceeds a limit.

    Example:
        >>> parse_json('{"a": [1, 2]}')
        {'a': [1, 2]}
    """
    text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
    too_deep = f"it is nested more than {MAX_DEPTH} levels deep"
    try:
        content = json.loads(text, parse_int=_parse_int, **options)
    except RecursionError:
        raise ValueError(too_deep) from None
    level = [content]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for value in level
            if isinstance(value, dict | list)
            for child in (value.values() if isinstance(value, dict) else value)
            if isinstance(child, dict | list)
        ]
        if not level:
            return content
    raise ValueError(too_deep)


def _parse_int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"an integer has {len(text):,} digits; the limit is {MAX_DIGITS:,}")
    return int(text)
