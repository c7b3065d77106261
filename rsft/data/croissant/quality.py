"""Statements of the description on biases, limitations and origin of the chips, from the manifest and the audit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rsft.data.audit.findings import AuditFinding, AuditResult
from rsft.data.chips.store import ChipStore
from rsft.data.chips.summary import count_chips, list_first_names, missing_classes
from rsft.utils.licenses import RESTRICTIONS, UNKNOWN, license_restrictions

_EXAMPLES = 3


def list_biases(store: ChipStore, splits: Sequence[str]) -> list[str]:
    """List the smallest and the largest class, and the number of scenes or vessels, of each split.

    Args:
        store: the chip store.
        splits: the splits that have chips.

    Returns:
        Sentences.

    Example:
        >>> from pathlib import Path
        >>> list_biases(ChipStore.open(Path("data/ships")), ["train"])[0]
        'Chips per class in train: 4 (tanker) to 12 (cargo), ratio 3. Scenes or vessels: unknown.'
    """
    counts = count_chips(store)
    sentences = []
    for split in splits:
        scenes = store.split(split)["group_key"].replace("", None).nunique()
        sizes = _compare_sizes(counts[split])
        sentences.append(f"Chips per class in {split}: {sizes}. Scenes or vessels: {scenes or 'unknown'}.")
    for split, names in missing_classes(counts).items():
        sentences.append(f"Without a chip in {split}: {list_first_names(names)}.")
    return sentences


def list_limitations(store: ChipStore, audit: AuditResult | None) -> list[str]:
    """List the faults that the audit found, and what the license restricts.

    Args:
        store: the chip store.
        audit: result of its audit; None if it was not audited.

    Returns:
        Sentences.

    Example:
        >>> from pathlib import Path
        >>> list_limitations(ChipStore.open(Path("data/ships")), None)[1]
        'The restrictions of the license are unknown (license: unknown).'
    """
    return [*_audit_sentences(audit), _license_sentence(store.license), *_label_sentences(store)]


def describe_sources(store: ChipStore) -> str:
    """Return the number of chips of each data set and each sensor, or "unknown".

    Args:
        store: the chip store.

    Example:
        >>> from pathlib import Path
        >>> describe_sources(ChipStore.open(Path("data/ships")))
        'Chips by source: chips 63. Chips by sensor: unknown.'
    """
    parts = []
    for column in ("source", "sensor"):
        tally = store.table[column].replace("", None).value_counts()
        names = ", ".join(f"{name} {count:,}" for name, count in sorted(tally.items()))
        parts.append(f"Chips by {column}: {names or 'unknown'}.")
    return " ".join(parts)


def describe_selection(store: ChipStore) -> str:
    """Return how many inputs of the build became chips, and why others did not.

    Args:
        store: the chip store.

    Example:
        >>> from pathlib import Path
        >>> describe_selection(ChipStore.open(Path("data/ships")))
        'Chips: 63. Inputs left out: none.'
    """
    reasons = [f"{count:,} skipped ({reason})" for reason, count in store.skipped.items()]
    reasons += [f"{store.rejected:,} rejected as unusable"] if store.rejected else []
    return f"Chips: {len(store.table):,}. Inputs left out: {'; '.join(reasons) or 'none'}."


def _compare_sizes(counts: Mapping[str, int]) -> str:
    sizes = {name: count for name, count in counts.items() if count}
    most, fewest = max(sizes, key=sizes.__getitem__), min(sizes, key=sizes.__getitem__)
    if sizes[most] == sizes[fewest]:
        return f"{sizes[most]:,} (classes: {len(sizes):,})"
    return f"{sizes[fewest]:,} ({fewest}) to {sizes[most]:,} ({most}), ratio {sizes[most] / sizes[fewest]:.3g}"


def _audit_sentences(audit: AuditResult | None) -> Iterator[str]:
    if audit is None:
        yield "The chips were not audited. Duplicates, leaks between splits and contradictory labels are unknown."
        return
    yield from (_finding_sentence(finding) for finding in audit.findings if finding.count)
    absent = [finding.description for finding in audit.findings if not finding.count]
    if absent:
        yield f"The audit found none of these: {'; '.join(absent)}."


def _finding_sentence(finding: AuditFinding) -> str:
    total = "" if finding.total is None else f" of {finding.total:,}"
    examples = f", such as {', '.join(finding.examples[:_EXAMPLES])}" if finding.examples else ""
    return f"The audit found {finding.description}: {finding.count:,}{total}{examples}."


def _license_sentence(text: str) -> str:
    restrictions = license_restrictions(text)
    if UNKNOWN in restrictions:
        return f"The restrictions of the license are unknown (license: {text})."
    meanings = "; ".join(f"{name} ({RESTRICTIONS[name]})" for name in restrictions)
    return f"Restrictions of the license: {meanings or 'none that rsft knows'}."


def _label_sentences(store: ChipStore) -> Iterator[str]:
    if "added_bundle" not in store.table:
        return
    count = int(store.table["added_bundle"].replace("", None).notna().sum())
    if count:
        yield f"{count:,} labels were given after a classifier had predicted a class, and may depend on it."
