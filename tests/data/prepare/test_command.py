"""The shell command that rebuilds a store."""

from __future__ import annotations

from pathlib import Path

from rsft.data.prepare.registry import format_prepare_command


def test_command_is_quoted_for_a_shell() -> None:
    command = format_prepare_command(
        "folder", Path("raw data/船"), root=Path("out"), names=None, min_side=4, val=0.2, ratio=100.0
    )
    assert command == "rsft prepare folder 'raw data/船' --root out --min-side 4 --val 0.2 --ratio 100"
