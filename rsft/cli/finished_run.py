"""The result of `rsft.finetune`: files, classifier, and what a notebook shows."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from rsft.evaluation.files import read_json
from rsft.evaluation.report.dataset import read_scene_maps
from rsft.evaluation.report.render import fill_template
from rsft.evaluation.schema import EVALUATION_FILE, MEASURES, Evaluation
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
        number = f"{{:.1f}}{self.evaluation.mark}".format
        table = self.accuracy.to_html(float_format=number, na_rep="-", border=0)
        content = {
            "run": self,
            "scenes": read_scene_maps(self.folder),
            "table": Markup(table),
            "report": self.report if self.report.is_file() else None,
        }
        return fill_template("notebook.html", content)
