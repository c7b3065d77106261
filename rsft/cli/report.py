"""`rsft report`: the page of a run made again, and runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from rsft.cli.display.console import progress, show_paths
from rsft.errors import RequestError


class _RunByDefault(TyperGroup):
    """`rsft report RUN` is `rsft report run RUN`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {*self.commands, *ctx.help_option_names}
        return super().parse_args(ctx, args if not args or args[0] in known else ["run", *args])


app = typer.Typer(
    cls=_RunByDefault, help="The page of a run again, from its files (rsft report RUN), or runs side by side."
)


@app.command("run")
def report_run(
    run: Annotated[Path, typer.Argument(help="Folder of a run, RUNS/<recipe>/<number>.")],
    data: Annotated[Path | None, typer.Option(help="Where its chips are now; where they were if left out.")] = None,
    no_pictures: Annotated[
        bool, typer.Option("--no-pictures", help="No pictures of chips: the page can go where the images must not.")
    ] = False,
) -> None:
    """Write RUN/report.html again, from the files of the run alone. `rsft report RUN` does the same."""
    from rsft.evaluation.report.run_page import write_report

    with progress() as told:
        path = write_report(run, data, pictures=not no_pictures, progress=told)
    show_paths({"report": path})


@app.command("compare")
def report_compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of runs; the first is what the others are compared with.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path("comparison.html"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace it where it is there.")] = False,
) -> None:
    """Put runs side by side on one page: accuracy, paired differences, accuracy against cost, and their recipes."""
    from rsft.evaluation.report.comparison_page import write_comparison

    if out.exists() and not overwrite:
        raise RequestError("the page is there already", out, "choose another name, or --overwrite")
    show_paths({"comparison": write_comparison(runs, out)})
