"""A bundle on labelled chips: numbers, baselines, two runs compared, and the page that shows them."""

from rsft.evaluate.compare import Comparison, compare_runs
from rsft.evaluate.job import Evaluation, evaluate
from rsft.evaluate.report import write_report

__all__ = ["Comparison", "Evaluation", "compare_runs", "evaluate", "write_report"]
