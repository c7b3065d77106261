"""The reports: self-contained pages, made from the files of runs alone."""

from rsft.evaluate.report.comparison import write_comparison
from rsft.evaluate.report.page import write_report

__all__ = ["write_comparison", "write_report"]
