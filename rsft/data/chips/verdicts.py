"""Verdicts on chips: a class, "not a target" or "unsure", as the review page and corrected layers have them."""

from __future__ import annotations

NOT_A_TARGET, UNSURE = "not a target", "unsure"
"""Verdicts that are not the name of a class."""

NO_CLASS = "row without a class"
"""Reason of a row that nobody looked at."""

_SPELLINGS = {NOT_A_TARGET: NOT_A_TARGET, UNSURE: UNSURE}


def parse_verdict(label: str, verdict: str = "") -> str:
    """Return the verdict of a row.

    Args:
        label: name of a class, or a verdict that is not a class, or "".
        verdict: "class" or "" if `label` counts, else "not a target" or "unsure". Upper and lower case are the same.

    Returns:
        The name of a class, `NOT_A_TARGET` or `UNSURE`; "" if nobody looked at the row.
    """
    verdict, label = " ".join(verdict.split()).casefold(), label.strip()
    if verdict in _SPELLINGS:
        return verdict
    return _SPELLINGS.get(" ".join(label.split()).casefold(), label)


def describe_verdict_fault(verdict: str) -> str:
    """Return why a verdict cannot be used, or "" if it can.

    Args:
        verdict: "class", "not a target", "unsure" or "".
    """
    if " ".join(verdict.split()).casefold() in ("", "class", *_SPELLINGS):
        return ""
    return f"unknown verdict {verdict}; it must be class, {NOT_A_TARGET} or {UNSURE}"


def resolve_label(verdict: str, not_a_target: str | None) -> tuple[str, str]:
    """Return the label of a verdict.

    Args:
        verdict: the verdict, see `parse_verdict`.
        not_a_target: class of chips that are not a target; None leaves them out.

    Returns:
        The label and "", or "" and the reason why the row has no label.

    Example:
        >>> resolve_label("not a target", "clutter")
        ('clutter', '')
    """
    if not verdict:
        return "", NO_CLASS
    if verdict == UNSURE or (verdict == NOT_A_TARGET and not_a_target is None):
        return "", verdict
    return str(not_a_target) if verdict == NOT_A_TARGET else verdict, ""
