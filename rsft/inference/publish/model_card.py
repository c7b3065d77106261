"""Write the model card of a bundle: the README.md of its repository on the Hugging Face Hub."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from rsft.data.imagery.bands import POLARIZATIONS
from rsft.errors import RequestError
from rsft.inference.publish.licenses import hub_license
from rsft.inference.publish.source import MEASURES, BundleSource, Measurement, read_source
from rsft.metrics.bootstrap import Interval
from rsft.models.bundle.bundle import Bundle
from rsft.models.inspection.describe import describe_contract
from rsft.types import GROUPS
from rsft.utils.atomic_files import write_text
from rsft.utils.licenses import describe_license
from rsft.utils.untrusted.documents import code_span, escape_markdown

CARD_FILE = "README.md"
MAX_CLASSES = 200
"""Largest number of classes that the card lists one by one."""

_REPOSITORY = re.compile(r"[a-zA-Z0-9][\w.-]{0,95}/[a-zA-Z0-9][\w.-]{0,95}", re.ASCII)
_HUB_METRICS = {"micro": "accuracy"}  # all others are means of recall
_METHOD_COLUMNS = {"micro": "overall", "macro": "mean of all classes", **{group: group for group in GROUPS}}


def write_model_card(
    bundle: Path, output: Path | None = None, *, repository: str | None = None, overwrite: bool = False
) -> Path:
    """Write the model card of a bundle in the form of the Hugging Face Hub: Markdown with YAML front matter.

    Args:
        bundle: a bundle, a run folder, or runs/<recipe> for its newest run.
        output: file to write (default: README.md beside the folder of the bundle).
        repository: OWNER/NAME of the repository on the Hub, for the commands in the card.
        overwrite: replace an existing file.

    Returns:
        The path of the card.

    Raises:
        RequestError: the path holds no bundle, the file exists, or `repository` is no name.
        WeightsError: the bundle is damaged or changed.
        DataError: the evaluation beside the bundle is damaged.

    Example:
        >>> path = write_model_card(Path("runs/ships"))
        >>> path.read_text().splitlines()[:4]
        ['---', 'license: unknown', 'library_name: rsft', 'pipeline_tag: image-classification']
    """
    if repository is not None:
        check_repository(repository)
    source = read_source(bundle)
    path = output or source.folder.parent / CARD_FILE
    if path.exists() and not overwrite:
        raise RequestError("the file exists already", path, "give --overwrite to replace it, or another --out")
    write_text(path, render_card(source, repository))
    return path


def check_repository(repository: str) -> None:
    """Raise an error unless a text is the name of a repository.

    Args:
        repository: the text.

    Raises:
        RequestError: it is not of the form OWNER/NAME.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise RequestError(f"{repository!r} is not the name of a repository", repository, "give OWNER/NAME")


def render_card(source: BundleSource, repository: str | None = None) -> str:
    """Return the model card of a bundle.

    Args:
        source: the bundle.
        repository: OWNER/NAME of the repository on the Hub; None if it has none.

    Returns:
        Markdown with YAML front matter.
    """
    front = yaml.safe_dump(front_matter(source), sort_keys=False, allow_unicode=True, width=10_000)
    sections = (
        _introduction(source),
        _classes(source),
        _chips(source.bundle),
        _results(source),
        _usage(source, repository),
        _limits(source),
        _licenses(source.bundle),
    )
    return f"---\n{front}---\n\n" + "\n\n".join("\n".join(section) for section in sections) + "\n"


def front_matter(source: BundleSource) -> dict[str, Any]:
    """Return the metadata of a model card.

    Args:
        source: the bundle.

    Returns:
        Keys of the Hugging Face Hub. A base model is named if the encoder has a repository there.
    """
    bundle, repository = source.bundle, source.encoder.repository
    is_radar = bool(set(bundle.contract.used_bands) & set(POLARIZATIONS))
    tags = ["rsft", "remote-sensing", bundle.recipe.peft.method, *(["sar"] if is_radar else [])]
    results = [_hub_result(measurement) for measurement in source.measurements]
    return {
        "license": hub_license(bundle.licenses),
        "library_name": "rsft",
        "pipeline_tag": "image-classification",
        "tags": tags,
        **({"base_model": repository, "base_model_relation": "adapter"} if repository else {}),
        **({"model-index": [{"name": bundle.recipe.name, "results": results}]} if results else {}),
    }


def _hub_result(measurement: Measurement) -> dict[str, Any]:
    data = measurement.data or "unknown"
    return {
        "task": {"type": "image-classification"},
        "dataset": {
            "type": re.sub(r"[^a-z0-9]+", "-", data.lower()).strip("-") or "unknown",
            "name": data,
            "split": measurement.split,
        },
        "metrics": [
            {"type": _HUB_METRICS.get(measure, "recall"), "value": round(interval.value, 4), "name": MEASURES[measure]}
            for measure, interval in measurement.accuracies.items()
        ],
    }


def _introduction(source: BundleSource) -> list[str]:
    bundle = source.bundle
    backbone, method = bundle.recipe.backbone.name, bundle.recipe.peft.method
    about = f" ({escape_markdown(source.encoder.about)})" if source.encoder.about else ""
    scales = ", with one learned scale per site of the network" if bundle.recipe.meta else ""
    runs = f" It averages {len(bundle.members)} runs." if len(bundle.members) > 1 else ""
    parameters = sum(tensor.numel() for tensor in bundle.tensors.values())
    weights = bundle.recipe.backbone.weights
    file = f" They are in the file {code_span(Path(weights).name)} of its author." if weights else ""
    return [
        f"# {escape_markdown(bundle.recipe.name)}",
        "",
        f"A classifier of images of single objects (chips) in {len(bundle.classes)} classes. It was fine-tuned with "
        f"rsft {escape_markdown(bundle.rsft_version)}: {code_span(method)} on the frozen encoder "
        f"{code_span(backbone)}{about}{scales}.{runs}",
        "",
        f"This repository has the {parameters:,} learned numbers, the classes and the description of the input. It "
        f"does not have the weights of the encoder (SHA-256 of its tensors: `{bundle.backbone_sha256}`).{file}",
        "",
        f"SHA-256 of the bundle: `{bundle.sha256}`.",
    ]


def _classes(source: BundleSource) -> list[str]:
    bundle = source.bundle
    group_of = {name: group for group, names in bundle.groups.items() for name in names}
    lines = ["## Classes", ""]
    if len(bundle.classes) > MAX_CLASSES:
        counts = Counter(group_of.get(name, "no group") for name in bundle.classes)
        listed = ", ".join(f"{count:,} {escape_markdown(group)}" for group, count in counts.items())
        return [*lines, f"{len(bundle.classes):,} classes ({listed}); `bundle/bundle.json` lists them."]
    measured = next((entry for entry in source.measurements if entry.recall), None)
    columns = ["class", "group", "training chips"]
    columns += [f"recall on {escape_markdown(measured.split)}", "chips"] if measured else []
    rows = []
    for index, (name, count) in enumerate(zip(bundle.classes, bundle.train_counts, strict=True)):
        row = [escape_markdown(name), escape_markdown(group_of.get(name, "-")), f"{count:,}"]
        if measured:
            recall = measured.recall[index]
            row += ["-" if recall is None else f"{100 * recall:.1f} %", f"{measured.class_chips[index]:,}"]
        rows.append(row)
    return [*lines, "In the order of the logits:", "", *_table(columns, rows, text_columns=2)]


def _chips(bundle: Bundle) -> list[str]:
    sentences = describe_contract(bundle.contract)
    listed = (f"- {escape_markdown(subject)}: {escape_markdown(text)}" for subject, text in sentences.items())
    return ["## Expected images", "", "rsft refuses an image that does not match:", "", *listed]


def _results(source: BundleSource) -> list[str]:
    lines = ["## Results", ""]
    if not source.measurements:
        return [*lines, "Not measured."]
    rare = source.bundle.groups.get("tail", ())
    lines += [
        "Percent, with 95 % bootstrap intervals over the chips. *Head*, *medium* and *tail* are the mean recall of the "
        "frequent, less frequent and rare classes.",
    ]
    if rare and len(rare) <= MAX_CLASSES:
        lines += ["", f"Rare classes (tail): {', '.join(map(escape_markdown, rare))}."]
    for measurement in source.measurements:
        lines += ["", *_measurement(measurement)]
    return lines


def _measurement(measurement: Measurement) -> Iterator[str]:
    data = f" of {escape_markdown(measurement.data)}" if measurement.data else ""
    yield f"On {measurement.chips:,} chips of the split {code_span(measurement.split)}{data}:"
    yield ""
    measures = [name for name in _METHOD_COLUMNS if any(name in values for values in measurement.methods.values())]
    rows = [
        [escape_markdown(method), *(_percent(values.get(name)) for name in measures)]
        for method, values in measurement.methods.items()
    ]
    yield from _table(["method", *(_METHOD_COLUMNS[name] for name in measures)], rows, text_columns=1)
    if measurement.notes:
        yield ""
        yield from (f"- {escape_markdown(note)}" for note in measurement.notes)


def _usage(source: BundleSource, repository: str | None) -> list[str]:
    name = repository.rpartition("/")[2] if repository else "MODEL"
    folder = f"Download this repository to a folder, here `{name}`:" if repository else f"`{name}` is this folder."
    download = [f"    hf download {repository} --local-dir {name}", ""] if repository else []
    needs = [f"    rsft weights get {source.bundle.recipe.backbone.name}"] if source.encoder.url else []
    return [
        "## Use",
        "",
        folder,
        "",
        *download,
        "Classify images:",
        "",
        "    pip install rsft",
        *needs,
        f"    rsft bundle verify {name}",
        f"    rsft predict {name} IMAGES -o predictions.gpkg",
        "",
        "In Python:",
        "",
        "```python",
        "import rsft",
        "",
        f'table = rsft.load_bundle("{name}").predict("IMAGES")  # a DataFrame with one row per image',
        "```",
    ]


def _limits(source: BundleSource) -> list[str]:
    bundle = source.bundle
    lines = [
        "## Limits",
        "",
        "- Every image gets one of the classes above, also an image of something else.",
        "- The numbers hold for images like those that were measured. Another sensor, resolution or region can differ.",
    ]
    if few := [name for name in bundle.groups.get("tail", ()) if name in bundle.classes]:
        least = min(bundle.train_counts[bundle.classes.index(name)] for name in few)
        lines.append(f"- The rare classes had few training chips (the rarest one {least:,}); expect more errors there.")
    if bundle.calibrator is None:
        lines.append("- The probabilities are not calibrated.")
    else:
        notes = [bundle.calibrator.promise(), *bundle.calibrator.notes(bundle.classes)]
        lines += [
            "- The probabilities are calibrated on validation chips.",
            *(f"- {escape_markdown(x)}" for x in notes),
        ]
    return lines


def _licenses(bundle: Bundle) -> list[str]:
    lines = ["## Licenses", "", "The bundle depends on the weights of its encoder and on its training data:", ""]
    for entry in bundle.licenses:
        name = f" {code_span(entry.name)}" if entry.name else ""
        lines.append(f"- {entry.source}{name}: {escape_markdown(describe_license(entry.license, entry.restrictions))}")
    return lines


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int) -> list[str]:
    """Return a Markdown table; columns after the first `text_columns` are aligned to the right."""
    rules = ["---"] * text_columns + ["---:"] * (len(columns) - text_columns)
    return [f"| {' | '.join(cells)} |" for cells in (columns, rules, *rows)]


def _percent(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    return f"{100 * interval.value:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"
