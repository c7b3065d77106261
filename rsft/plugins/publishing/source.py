"""Collect the data of a model card and a STAC item.

They come from a bundle, and from the run, evaluation and exports beside it.
"""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rsft.evaluation.files import read_json
from rsft.evaluation.schema import Evaluation
from rsft.metrics.intervals import Interval
from rsft.models.bundle.bundle import Bundle, find_bundle
from rsft.models.inspection.describe import EncoderOrigin, describe, find_encoder_origin
from rsft.types import GROUPS, JsonObject, Names
from rsft.utils.templates import render_template
from rsft.utils.untrusted.documents import load_json

MEASURES = ("micro", "macro", *GROUPS)
"""Accuracies in the order of the card."""


@dataclass(frozen=True)
class Measurement:
    """Accuracy on the labeled chips of one split.

    Attributes:
        data: name of the data set; empty if it is unknown.
        methods: accuracies by method and measure; the first method is that of the
            bundle, others are baselines.
        recall: recall of each class; None for a class without chips. Empty if it was
            not recorded.
        class_chips: number of chips of each class; empty if it was not recorded.
    """

    data: str
    split: str
    chips: int
    methods: Mapping[str, Mapping[str, Interval]]
    recall: tuple[float | None, ...] = ()
    class_chips: tuple[int, ...] = ()
    notes: Names = ()

    @property
    def accuracies(self) -> Mapping[str, Interval]:
        """The accuracies of the bundle."""
        return next(iter(self.methods.values()))

    @property
    def measures(self) -> list[str]:
        """The measures that at least one method has."""
        return [
            name
            for name in MEASURES
            if any(name in values for values in self.methods.values())
        ]


@dataclass(frozen=True)
class BundleSource:
    """A bundle, and what lies beside it.

    Attributes:
        run: content of run.json beside the bundle; empty without the run that made the
            bundle.
        measurements: accuracies, that of the evaluation first.
    """

    folder: Path
    bundle: Bundle
    encoder: EncoderOrigin
    run: JsonObject = field(default_factory=dict)
    measurements: tuple[Measurement, ...] = ()


def read_source(folder: Path) -> BundleSource:
    """Open a bundle, and read what lies beside it.

    A run or an evaluation of another bundle is left out.

    Args:
        folder: a folder as in `find_bundle`.

    Raises:
        RequestError: `folder` contains no bundle, or this version of rsft does not know
            its recipe.
        WeightsError: the bundle is damaged or changed.
        DataError: the evaluation beside the bundle is damaged.
    """
    bundle_dir = find_bundle(folder)
    bundle = Bundle.load(folder)
    run = {}
    with suppress(OSError, ValueError, TypeError):
        run = dict(load_json(bundle_dir.parent / "run.json"))
    if run.get("bundle_sha256") != bundle.sha256:
        run = {}
    evaluated = None
    if run:
        evaluated = _read_evaluation(
            bundle_dir.parent / "evaluation/metrics.json", bundle
        )
    validated = _read_validation(bundle)
    # the evaluation says more of the same chips
    if evaluated and validated and evaluated.split == validated.split:
        validated = None
    measurements = tuple(filter(None, (evaluated, validated)))
    encoder = find_encoder_origin(bundle.recipe.backbone)
    return BundleSource(bundle_dir, bundle, encoder, run, measurements)


def fill_bundle_template(name: str, source: BundleSource, **values: Any) -> str:
    """Fill a template of this package with the description of a bundle."""
    bundle = source.bundle
    return render_template(
        __package__,
        name,
        source=source,
        bundle=bundle,
        recipe=bundle.recipe,
        encoder=source.encoder,
        **describe(bundle),
        **values,
    )


def _read_evaluation(path: Path, bundle: Bundle) -> Measurement | None:
    """Return the accuracies of an evaluation of the run; None without one."""
    if not path.is_file():
        return None
    evaluation = read_json(path, Evaluation)
    if evaluation.classes != bundle.classes:
        return None
    methods = {}
    for name, summary in evaluation.methods.items():
        values = {measure: getattr(summary, measure) for measure in MEASURES}
        methods[name] = {key: x for key, x in values.items() if x is not None}
    return Measurement(
        data=Path(evaluation.data).name,
        split=evaluation.split,
        chips=evaluation.count,
        methods=methods,
        recall=tuple(evaluation.summary.recall),
        class_chips=tuple(map(sum, evaluation.confusion)),
        notes=tuple(evaluation.notes),
    )


def _read_validation(bundle: Bundle) -> Measurement | None:
    """Return the validation accuracies in a bundle, or None."""
    split = bundle.metrics.get("split")
    chips = bundle.metrics.get("chips")
    accuracies = {}
    for name in MEASURES:
        with suppress(ValidationError):
            interval = TypeAdapter(Interval).validate_python(bundle.metrics.get(name))
            if all(map(math.isfinite, (interval.value, interval.low, interval.high))):
                accuracies[name] = interval
    if not accuracies or not isinstance(split, str) or not isinstance(chips, int):
        return None
    data = next((entry.name for entry in bundle.licenses if entry.source == "data"), "")
    return Measurement(data, split, chips, {bundle.recipe.peft.method: accuracies})
