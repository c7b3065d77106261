"""Restrictions of licenses: which uses of weights or data a license does not allow."""

import re

RESTRICTIONS: dict[str, str] = {
    "non-commercial": "no commercial use",
    "research-only": "use in research only",
    "no-derivatives": (
        "no distribution of changed versions, which include fine-tuned weights"
    ),
    "share-alike": "distribution of changed versions only under the same license",
    "no-military": "no military use",
    "no-weapons": "no development or use of weapons",
    "no-nuclear": "no use in nuclear industries",
    "no-espionage": "no espionage",
    "no-surveillance": "no surveillance",
    "no-policing": "no use in policing",
    "no-biometrics": "no biometric processing",
    "no-extraction": "no use in mining, drilling or deforestation",
    "listed-uses": "further uses are prohibited, which the license lists",
    "unknown": "no license is published, or rsft does not know its terms",
}
"""Restrictions and their meaning. Duties such as attribution are not restrictions."""

UNKNOWN = "unknown"
"""Restriction and license of weights or data without a published license."""

_PROHIBITIONS: dict[str, tuple[str, ...]] = {
    r"dinov3[- ]license": ("no-military", "no-weapons", "no-nuclear", "no-espionage"),
    r"olmoearth": ("no-military", "no-surveillance", "no-policing", "no-extraction"),
    r"sapiens2": ("no-surveillance", "no-biometrics", "listed-uses"),
    r"openrail": ("listed-uses",),
    r"apple-amlr|fair[- ]noncommercial[- ]research": (
        "non-commercial",
        "research-only",
    ),
    r"\bcc-by(-nc)?-sa\b|\bodbl|gpl\b": ("share-alike",),
    r"\bcc-by(-nc)?-nd\b": ("no-derivatives",),
    r"\bcc-by-nc\b|non-?commercial": ("non-commercial",),
    r"research[ -](use )?only|academic (use|purposes) only": ("research-only",),
    r"\bunknown\b|\bno license\b": (UNKNOWN,),
}
"""Restrictions by a pattern of the license's name, in lower case."""

_PERMISSIVE = (
    r"\b(mit|apache-2\.0|bsd(-\w+)*|isc|cc0(-1\.0)?|cc-by(-\d\.\d)?(?!-)"
    r"|odc-by(-1\.0)?|pddl|public[-"
    r" ]domain)\b"
)


def license_restrictions(text: str) -> tuple[str, ...]:
    """Return the restrictions of a license.

    Args:
        text: an SPDX identifier or a statement. Statements about several things are
            separated by semicolons. A name of `RESTRICTIONS` in a statement is a
            restriction.

    Returns:
        Names in the order of `RESTRICTIONS`; empty for a license that restricts no use.
        "unknown" stands for a statement that names no license of which rsft knows the
        terms.

    Example:
        >>> license_restrictions("CC-BY-NC-4.0")
        ('non-commercial',)
        >>> license_restrictions("Apache-2.0")
        ()
    """
    restrictions = set()
    for statement in text.lower().split(";"):
        named = {name for name in RESTRICTIONS if re.search(rf"\b{name}\b", statement)}
        for pattern, names in _PROHIBITIONS.items():
            if re.search(pattern, statement):
                named.update(names)
        if not named and not re.search(_PERMISSIVE, statement):
            named = {UNKNOWN}
        restrictions |= named
    return tuple(name for name in RESTRICTIONS if name in restrictions)


def describe_license(text: str, restrictions: tuple[str, ...]) -> str:
    """Return a license with its restrictions, such as "CC-BY-NC-4.0 (...)"."""
    shown = [name for name in restrictions if name not in text.lower()]
    if shown:
        return f"{text} ({', '.join(shown)})"
    return text
