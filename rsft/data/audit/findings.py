"""The result of an audit, and its JSON file."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rsft.errors import DataError
from rsft.utils.atomic_files import write_text
from rsft.utils.untrusted.documents import parse_json

AUDIT_FILE = "audit.json"
"""File name of the audit in a chip store."""

_EXAMPLES = 5


@dataclass(frozen=True)
class AuditFinding:
    """One kind of fault. Pydantic reads it from audit.json, where two fields have other names.

    Attributes:
        description: the fault, in words.
        count: number of occurrences.
        total: number of checked items; None if it is not meaningful.
        examples: the first few occurrences, in order.
    """

    description: str = field(metadata={"validation_alias": "what"})
    count: int
    total: int | None = field(default=None, metadata={"validation_alias": "of"})
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class AuditResult:
    """Checked items, faults and class counts of an audit. Pydantic reads it from audit.json, where `totals` is "facts".

    Attributes:
        subject: what was checked.
        totals: numbers that do not count as faults, in display order.
        findings: every kind of fault, those that did not occur included.
        classes: number of rows by class, origin and split.
    """

    subject: str
    totals: dict[str, int | str] = field(metadata={"validation_alias": "facts"})
    findings: Sequence[AuditFinding]
    classes: dict[str, dict[str, dict[str, int]]]

    @property
    def is_clean(self) -> bool:
        """Whether no fault occurred."""
        return not any(finding.count for finding in self.findings)


def count_finding(description: str, occurrences: Iterable[object], total: int | None = None) -> AuditFinding:
    """Count the occurrences of a fault and keep the first few as examples.

    Args:
        description: the fault, in words.
        occurrences: each occurrence; its text becomes an example.
        total: number of checked items.

    Returns:
        The finding.
    """
    texts = tuple(map(str, occurrences))
    return AuditFinding(description, len(texts), total, texts[:_EXAMPLES])


def read_audits(path: Path) -> list[AuditResult]:
    """Read the results that `write_audits` wrote.

    Raises:
        DataError: the file is damaged.

    Example:
        >>> read_audits(Path("data/ships/audit.json"))[0].totals["train rows"]
        24
    """
    from pydantic import TypeAdapter

    try:
        return TypeAdapter(list[AuditResult]).validate_python(parse_json(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise DataError(f"{path.name} is damaged ({error})", path, "run `rsft audit` again") from error


def write_audits(path: Path, audits: Sequence[AuditResult]) -> None:
    """Write a JSON list with one object per audit; the file is replaced atomically."""
    content = [
        {
            "clean": audit.is_clean,
            "subject": audit.subject,
            "facts": audit.totals,
            "findings": [
                {"what": item.description, "count": item.count, "of": item.total, "examples": item.examples}
                for item in audit.findings
            ],
            "classes": audit.classes,
        }
        for audit in audits
    ]
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
