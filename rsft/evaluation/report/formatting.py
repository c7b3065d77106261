"""Format numbers and lists of words."""

from __future__ import annotations

from collections.abc import Sequence


def points_apart(value: float, reference: float) -> str:
    """Return the difference of two accuracies as text, such as "1.2 points above".

    Args:
        value: accuracy in 0-1.
        reference: the other accuracy in 0-1.
    """
    points = round(100 * (value - reference), 1)
    if points == 0:
        return "level with"
    return f"{abs(points):.1f} points {'above' if points > 0 else 'below'}"


def signed_points(value: float, reference: float) -> str:
    """Return the difference of two accuracies in points with its sign, such as "+1.2".

    Args:
        value: accuracy in 0-1.
        reference: the other accuracy in 0-1.
    """
    points = round(100 * (value - reference), 1)
    return f"{points:+.1f}".replace("-", "\N{MINUS SIGN}") if points else "0.0"


def pluralize(count: int, noun: str, ending: str = "s") -> str:
    """Return a count with its noun, such as "1 chip" or "1,200 chips".

    Args:
        count: the number.
        noun: the noun in the singular.
        ending: ending of the plural.
    """
    return f"{count:,} {noun}{'' if count == 1 else ending}"


def format_percent(value: float) -> str:
    """Return a value in 0-1 as percent with one decimal, without the percent sign."""
    return f"{100 * value:.1f}"


def format_duration(seconds: float) -> str:
    """Return seconds, minutes and seconds, or hours and minutes."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, remainder = divmod(round(seconds), 60)
    return f"{minutes} min {remainder} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def format_bytes(count: int) -> str:
    """Return a number of bytes in kB or MB."""
    return f"{count / 1e3:,.0f} kB" if count < 1e6 else f"{count / 1e6:,.1f} MB"


def join_words(names: Sequence[str], word: str = "and") -> str:
    """Return names as an enumeration, such as "a, b and c".

    Args:
        names: any number of names.
        word: word before the last name.
    """
    return f" {word} ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
