"""The commands `rsft report run` and `rsft report compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from rsft.cli.display.console import progress, show_paths
from rsft.errors import RequestError


class _RunByDefault(TyperGroup):
    """A command group in which `rsft report RUN` means `rsft report run RUN`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        names = {*self.commands, *ctx.help_option_names}
        return super().parse_args(ctx, args if not args or args[0] in names else ["run", *args])


app = typer.Typer(
    cls=_RunByDefault, help="Write the HTML report of a run again (rsft report RUN), or compare runs on one page."
)


@app.command("run")
def report_run(
    run: Annotated[Path, typer.Argument(help="Run folder, or RUNS/<recipe> for its newest run.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the chip store (default: its folder during the run).")
    ] = None,
    no_pictures: Annotated[
        bool, typer.Option("--no-pictures", help="Write the page without images of chips, for sharing.")
    ] = False,
) -> None:
    """Write RUN/report.html again from the files of the run. `rsft report RUN` does the same."""
    from rsft.evaluation.report.run_page import write_report
    from rsft.training.runs.reader import find_newest_run

    with progress() as report:
        path = write_report(find_newest_run(run), data, pictures=not no_pictures, progress=report)
    show_paths({"report": path})


@app.command("compare")
def report_compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Run folders, or RUNS/<recipe> for its newest run; the first is the reference.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML page to write.")] = Path("comparison.html"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing page.")] = False,
) -> None:
    """Compare runs on one page: accuracy, paired differences, features, modulators, cost, and the recipes."""
    from rsft.evaluation.report.comparison_page import write_comparison
    from rsft.training.runs.reader import find_newest_run

    if out.exists() and not overwrite:
        raise RequestError("the page exists already", out, "choose another name, or use --overwrite")
    show_paths({"comparison": write_comparison([find_newest_run(run) for run in runs], out)})
