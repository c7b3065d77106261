"""Write the model card of a bundle: the README.md of its repository on the Hugging Face Hub."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from rsft.data.imagery.bands import POLARIZATIONS
from rsft.errors import RequestError
from rsft.inference.publish.source import MEASURES, BundleSource, read_source, spdx_license
from rsft.metrics import Interval
from rsft.models.inspection.describe import describe
from rsft.types import GROUPS
from rsft.utils.atomic_files import write_text
from rsft.utils.licenses import UNKNOWN
from rsft.utils.untrusted.documents import code_span, escape_markdown

CARD_FILE = "README.md"
MAX_CLASSES = 200
"""Largest number of classes that the card lists one by one."""

_REPOSITORY = re.compile(r"[a-zA-Z0-9][\w.-]{0,95}/[a-zA-Z0-9][\w.-]{0,95}", re.ASCII)
_COLUMNS = {"micro": "overall", "macro": "mean of all classes", **{group: group for group in GROUPS}}


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

    Raises:
        RequestError: it is not of the form OWNER/NAME.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise RequestError(f"{repository!r} is not the name of a repository", repository, "give OWNER/NAME")


def render_card(source: BundleSource, repository: str | None = None) -> str:
    """Fill the template of the model card, card.md.jinja.

    Args:
        source: the bundle.
        repository: OWNER/NAME of the repository on the Hub; None if it has none.

    Returns:
        Markdown with YAML front matter.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("rsft.inference", "publish")
    environment = Environment(
        loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"md": escape_markdown, "code": code_span, "percent": _percent}
    recipe, description = source.bundle.recipe, describe(source.bundle)
    return environment.get_template("card.md.jinja").render(
        description,
        source=source,
        recipe=recipe,
        recipe_licenses=source.bundle.licenses,
        front=yaml.safe_dump(front_matter(source), sort_keys=False, allow_unicode=True, width=10_000),
        weights_file=Path(recipe.backbone.weights).name if recipe.backbone.weights else None,
        group_counts=Counter(entry["group"] or "no group" for entry in description["classes"]),
        rare=source.bundle.groups.get("tail", ()),
        measures=_COLUMNS,
        max_classes=MAX_CLASSES,
        repository=repository,
        folder=repository.rpartition("/")[2] if repository else "MODEL",
    )


def front_matter(source: BundleSource) -> dict[str, Any]:
    """Return the metadata of a model card: keys of the Hugging Face Hub.

    A base model is named if the encoder has a repository there.
    """
    bundle, repository = source.bundle, source.encoder.repository
    is_radar = bool(set(bundle.contract.used_bands) & set(POLARIZATIONS))
    results = []
    for measurement in source.measurements:
        data = measurement.data or "unknown"
        slug = re.sub(r"[^a-z0-9]+", "-", data.lower()).strip("-") or "unknown"
        metrics = [
            {
                "type": "accuracy" if measure == "micro" else "recall",
                "value": round(interval.value, 4),
                "name": MEASURES[measure],
            }
            for measure, interval in measurement.accuracies.items()
        ]
        dataset = {"type": slug, "name": data, "split": measurement.split}
        results.append({"task": {"type": "image-classification"}, "dataset": dataset, "metrics": metrics})
    return {
        "license": (spdx_license(bundle.licenses) or UNKNOWN).lower(),
        "library_name": "rsft",
        "pipeline_tag": "image-classification",
        "tags": ["rsft", "remote-sensing", bundle.recipe.peft.method, *(["sar"] if is_radar else [])],
        **({"base_model": repository, "base_model_relation": "adapter"} if repository else {}),
        **({"model-index": [{"name": bundle.recipe.name, "results": results}]} if results else {}),
    }


def _percent(interval: Interval) -> str:
    return f"{100 * interval.value:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"
