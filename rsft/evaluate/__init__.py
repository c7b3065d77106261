"""A bundle on labelled chips: numbers, baselines, and the page that shows them."""

from rsft.evaluate.job import Evaluation, evaluate
from rsft.evaluate.report import write_report

__all__ = ["Evaluation", "evaluate", "write_report"]
