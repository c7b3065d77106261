"""The command that makes a store again."""

from __future__ import annotations

from pathlib import Path

from rsft.data.prepare._command import format_prepare_command


def test_it_can_be_pasted_into_a_shell() -> None:
    told = format_prepare_command(
        "folder", Path("raw data/船"), root=Path("out"), names=None, min_side=4, val=0.2, ratio=100.0
    )
    assert told == "rsft prepare folder 'raw data/船' --root out --min-side 4 --val 0.2 --ratio 100"
