"""Match error messages by what is stable: files, values, names, options and commands,
not whole sentences."""

from __future__ import annotations

import re


def mentions(*parts: object) -> str:
    """Return a pattern for `match=`: the message contains all `parts`, in any order.

    Args:
        parts: what the reader needs to act: a path, a value, a key, an option, or the
            command of the hint.

    Example:
        >>> with pytest.raises(RequestError, match=mentions("--unit", "sigma0")): ...
    """
    return "(?s)" + "".join(f"(?=.*{re.escape(str(part))})" for part in parts)
