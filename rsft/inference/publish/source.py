"""Collect what is known about a bundle: its own files, and those of the run and the exports beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rsft.errors import DataError, RequestError, WeightsError
from rsft.evaluation.schema import Evaluation
from rsft.inference.export.metadata import METADATA_FILE, read_export_metadata
from rsft.metrics.bootstrap import Interval
from rsft.models.bundle.bundle import Bundle, find_bundle
from rsft.models.inspection.describe import EncoderOrigin, find_encoder_origin
from rsft.types import GROUPS
from rsft.utils.untrusted.documents import parse_json, read_regular

MEASURES = {
    "micro": "overall accuracy",
    "macro": "mean recall of all classes",
    **{group: f"mean recall of the {group} classes" for group in GROUPS},
}
"""Accuracies in the order of the card, with their names."""

_RUN_FILE, _EVALUATION_FILE = "run.json", "evaluation/metrics.json"


@dataclass(frozen=True)
class Measurement:
    """Accuracy on the labeled chips of one split.

    Attributes:
        data: name of the data set; empty if it is unknown.
        split: name of the split.
        chips: number of chips.
        methods: accuracies by method and measure; the first method is that of the bundle, others are baselines.
        recall: recall of each class; None for a class without chips. Empty if it was not recorded.
        class_chips: number of chips of each class; empty if it was not recorded.
        notes: remarks of the evaluation.
    """

    data: str
    split: str
    chips: int
    methods: Mapping[str, Mapping[str, Interval]]
    recall: tuple[float | None, ...] = ()
    class_chips: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def accuracies(self) -> Mapping[str, Interval]:
        """The accuracies of the bundle."""
        return next(iter(self.methods.values()))


@dataclass(frozen=True)
class BundleSource:
    """A bundle, and what lies beside it.

    Attributes:
        folder: folder of the bundle.
        bundle: the open bundle.
        encoder: origin of the frozen encoder.
        run: content of run.json beside the bundle; empty without the run that made the bundle.
        measurements: accuracies, that of the evaluation first.
    """

    folder: Path
    bundle: Bundle
    encoder: EncoderOrigin
    run: Mapping[str, Any] = field(default_factory=dict)
    measurements: tuple[Measurement, ...] = ()

    @property
    def total_parameters(self) -> int | None:
        """Number of parameters with the frozen encoder; None if this version does not know the encoder."""
        from rsft.models.inspection.verify import build_meta_model

        try:
            frozen = build_meta_model(self.bundle).frozen_parameters
        except RequestError:
            return None
        return frozen + sum(tensor.numel() for tensor in self.bundle.tensors.values())


def read_source(folder: Path) -> BundleSource:
    """Open a bundle, and read what lies beside it. A run or an evaluation of another bundle is left out.

    Args:
        folder: a folder as in `find_bundle`.

    Returns:
        The bundle with its run and its accuracies.

    Raises:
        RequestError: `folder` contains no bundle.
        WeightsError: the bundle is damaged or changed.
        RecipeError: this version of rsft does not know its recipe.
        DataError: the evaluation beside the bundle is damaged.
    """
    bundle_dir, bundle = find_bundle(folder), Bundle.load(folder)
    run = _read_run(bundle_dir.parent, bundle.sha256)
    evaluated = _read_evaluation(bundle_dir.parent / _EVALUATION_FILE, bundle) if run else None
    validated = _validation_measurement(bundle)
    measurements = tuple(filter(None, (evaluated, validated)))
    if evaluated and validated and evaluated.split == validated.split:  # the evaluation says more of the same chips
        measurements = (evaluated,)
    return BundleSource(bundle_dir, bundle, find_encoder_origin(bundle.recipe.backbone), run, measurements)


def find_exports(source: BundleSource) -> dict[Path, dict[str, Any]]:
    """Return the exports of a bundle that lie beside it.

    Args:
        source: the bundle.

    Returns:
        Content of export.json by folder; exports of other bundles and damaged ones are left out.
    """
    exports = {}
    for path in sorted((source.folder.parent / "exports").glob(f"*/{METADATA_FILE}")):
        with suppress(RequestError, WeightsError, OSError):
            metadata = read_export_metadata(path.parent)
            if metadata.get("bundle_sha256") == source.bundle.sha256:
                exports[path.parent] = metadata
    return exports


def _read_run(folder: Path, digest: str) -> dict[str, Any]:
    """Return the content of run.json; empty if it is missing, damaged, or of another bundle."""
    with suppress(OSError, ValueError, TypeError):
        run = dict(parse_json(read_regular(folder / _RUN_FILE)))
        return run if run.get("bundle_sha256") == digest else {}
    return {}


def _read_evaluation(path: Path, bundle: Bundle) -> Measurement | None:
    """Return the accuracies of an evaluation of the run; None without one.

    Raises:
        DataError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        evaluation = TypeAdapter(Evaluation).validate_python(parse_json(read_regular(path)))
    except (OSError, ValueError, TypeError) as error:
        raise DataError("the file is damaged", path, "evaluate again: rsft evaluate") from error
    if evaluation.classes != bundle.classes:
        return None
    methods = {
        name: {measure: value for measure in MEASURES if (value := getattr(summary, measure)) is not None}
        for name, summary in evaluation.methods.items()
    }
    return Measurement(
        data=Path(evaluation.data).name,
        split=evaluation.split,
        chips=evaluation.count,
        methods=methods,
        recall=tuple(evaluation.summary.recall),
        class_chips=tuple(map(sum, evaluation.confusion)),
        notes=tuple(evaluation.notes),
    )


def _validation_measurement(bundle: Bundle) -> Measurement | None:
    """Return the accuracies in a bundle, of the validation after training; None if it has none."""
    accuracies = dict(_intervals(bundle.metrics))
    split, chips = bundle.metrics.get("split"), bundle.metrics.get("chips")
    if not accuracies or not isinstance(split, str) or not isinstance(chips, int):
        return None
    names = [entry.name for entry in bundle.licenses if entry.source == "data" and entry.name]
    method = bundle.recipe.peft.method
    return Measurement(names[0] if names else "", split, chips, {method: accuracies})


def _intervals(metrics: Mapping[str, Any]) -> Iterator[tuple[str, Interval]]:
    for name in MEASURES:
        with suppress(ValidationError):
            interval = TypeAdapter(Interval).validate_python(metrics.get(name))
            if all(map(math.isfinite, (interval.value, interval.low, interval.high))):
                yield name, interval
