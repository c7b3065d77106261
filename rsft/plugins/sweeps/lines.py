"""Show the trials of a study: a line for each one that ended."""

from collections.abc import Callable
from dataclasses import dataclass, field

from rsft.study.outcomes import TrialOutcome, describe_keys, format_measure
from rsft.study.trials import KeyValues
from rsft.types import Progress


@dataclass
class TrialLines:
    """Says a line for each trial that ended, and shows how many have.

    Attributes:
        metric: metric of a finished trial that the line has.
        total: number of trials.
        ended: number of trials that ended in an earlier call.
        say: shows a line.
        report: shows the progress; None for nothing.
        names: names of trials by id; others have their recipe keys.
    """

    metric: str
    total: int
    ended: int
    say: Callable[[str], None]
    report: Progress | None = None
    names: dict[str, str] = field(default_factory=dict)

    def on_start(self, id: str, keys: KeyValues) -> None:
        """Show that a trial starts."""
        self.names.setdefault(id, describe_keys(keys))
        self._show_progress()

    def on_end(self, id: str, outcome: TrialOutcome | None) -> None:
        """Show that a trial ends, with its outcome; None if a signal stopped it."""
        self.ended += outcome is not None
        self._show_progress()
        line = f"{self.ended}/{self.total}  {self.names[id]}"
        self.say(f"{line}  {self._describe(outcome)}")

    def _show_progress(self) -> None:
        if self.report is not None:
            self.report(self.ended, self.total, "trials")

    def _describe(self, outcome: TrialOutcome | None) -> str:
        if outcome is None:
            return "stopped"
        if outcome.status != "done":
            return f"{outcome.status}: {outcome.reason}"
        value = format_measure(self.metric, float(outcome.metrics[self.metric]))
        return f"{self.metric} {value}  {outcome.seconds:.0f} s"
