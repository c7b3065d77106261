"""What an audit says, and how it is kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rsft.utils.atomic_files import write_text

AUDIT_FILE = "audit.json"
_EXAMPLES = 5


@dataclass(frozen=True)
class AuditFinding:
    """One kind of fault.

    Attributes:
        count: how often it was met.
        of: among how many; None where that says nothing.
        examples: the first few, in order.
    """

    what: str
    count: int
    of: int | None = None
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class AuditResult:
    """What was looked at and what was found, faults that were not met included.

    Attributes:
        facts: numbers that are no faults, in the order in which they are shown.
        classes: what stands behind each class: class, then origin, then split, then rows.
    """

    subject: str
    facts: dict[str, int | str]
    findings: Sequence[AuditFinding]
    classes: dict[str, dict[str, dict[str, int]]]

    @property
    def clean(self) -> bool:
        """Nothing was found."""
        return not any(finding.count for finding in self.findings)


def count_finding(what: str, met: Iterable[object], of: int | None = None) -> AuditFinding:
    """Count `met` and keep the first few."""
    listed = [str(item) for item in met]
    return AuditFinding(what, len(listed), of, tuple(listed[:_EXAMPLES]))


def write_audits(path: Path, audits: Sequence[AuditResult]) -> None:
    """Write JSON: a list with an object an audit, whole or not at all."""
    content: list[dict[str, Any]] = [{"clean": audit.clean} | asdict(audit) for audit in audits]
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
