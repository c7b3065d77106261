"""The result of `rsft.finetune`: files, classifier, and what a notebook shows."""

from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from rsft.evaluation.files import EVALUATION_FILE, read_json
from rsft.evaluation.report.dataset import read_scene_maps
from rsft.evaluation.schema import MEASURES, Evaluation
from rsft.inference.predict.predictor import Predictor
from rsft.training.runs.writer import Run


@dataclass(repr=False)
class FinishedRun(Run):
    """A run with its evaluation and its report, as `rsft.finetune` returns it.

    Attributes:
        commands: the commands that do the same, one by one; empty for a recipe.
    """

    commands: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"FinishedRun({str(self.folder)!r})"

    @property
    def bundle(self) -> Path:
        """The folder of the bundle, for `rsft.load_bundle`."""
        return self.bundle_dir

    @property
    def report(self) -> Path:
        """The page of the report; it does not exist after `no_report=True`."""
        return self.folder / "report.html"

    @cached_property
    def evaluation(self) -> Evaluation:
        """The content of evaluation/metrics.json."""
        return read_json(self.folder / "evaluation" / EVALUATION_FILE, Evaluation)

    @property
    def accuracy(self) -> pd.DataFrame:
        """Accuracy in %, one row per method; a group without chips has no column."""
        rows = {
            method: {
                name: 100 * interval.value
                for key, name in MEASURES.items()
                if (interval := getattr(summary, key))
            }
            for method, summary in self.evaluation.methods.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index")

    @cached_property
    def predictor(self) -> Predictor:
        """The bundle, ready to classify; it is loaded when it is first needed."""
        return Predictor.load(self.bundle)

    def predict(self, chips: Any, **options: Any) -> pd.DataFrame:
        """Classify chips; arguments and table are those of `Predictor.predict`."""
        return self.predictor.predict(chips, **options)

    def _repr_html_(self) -> str:
        """Return the maps of scenes, the accuracy, and the path of the report."""
        evaluation = self.evaluation
        parts = []
        for scene, picture in read_scene_maps(self.folder):
            legend = (
                f'<span style="color: {color}">■</span> {escape(name)}'
                for name, color in scene.legend.items()
            )
            caption = "<br>".join((" ".join(legend), escape(scene.caption)))
            parts.append(f'<figure><img src="{picture}" style="max-width:100%">')
            parts.append(f"<figcaption>{caption}</figcaption></figure>")
        chips = (
            f"{evaluation.count:,} chips of {evaluation.data}, split {evaluation.split}"
        )
        parts.append(
            f"<p>{escape(str(self.folder))}: accuracy in % on {escape(chips)}</p>"
        )
        parts.append(
            self.accuracy.to_html(
                float_format=f"{{:.1f}}{evaluation.mark}".format, na_rep="-", border=0
            )
        )
        parts += [f"<p>{escape(note)}</p>" for note in evaluation.notes]
        if self.report.is_file():
            parts.append(f"<p>report: <code>{escape(str(self.report))}</code></p>")
        return "\n".join(parts)
