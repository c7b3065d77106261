"""Show the trials of a sweep: a line for each one that ended."""

from dataclasses import dataclass, field

from rich.console import Console

from rsft.plugins.sweeps.sweep import SweepWatcher
from rsft.plugins.sweeps.sweep_file import Sweep
from rsft.study.outcomes import TrialOutcome, describe_keys, format_measure
from rsft.study.trials import KeyValues
from rsft.types import Progress


@dataclass
class SweepLines(SweepWatcher):
    """Prints a line for each trial that ended, and shows how many have.

    Attributes:
        sweep: the sweep.
        total: number of trials.
        ended: number of trials that ended in an earlier call.
        console: where to print.
        report: shows the progress.
        keys: recipe keys of the trials that started, by their id.
    """

    sweep: Sweep
    total: int
    ended: int
    console: Console
    report: Progress
    keys: dict[str, KeyValues] = field(default_factory=dict)

    def on_start(self, id: str, keys: KeyValues) -> None:
        self.keys[id] = keys
        self.report(self.ended, self.total, "trials")

    def on_end(self, id: str, outcome: TrialOutcome | None) -> None:
        if outcome is not None:
            self.ended += 1
        self.report(self.ended, self.total, "trials")
        line = f"{self.ended}/{self.total}  {describe_keys(self.keys[id])}"
        self.console.print(f"{line}  {self._describe(outcome)}", soft_wrap=True)

    def _describe(self, outcome: TrialOutcome | None) -> str:
        if outcome is None:
            return "stopped"
        if outcome.status != "done":
            return f"{outcome.status}: {outcome.reason}"
        name = self.sweep.metric
        value = format_measure(name, float(outcome.metrics[name]))
        return f"{name} {value}  {outcome.seconds:.0f} s"
