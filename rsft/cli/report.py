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
        bool, typer.Option("--no-pictures", help="Write the page without images of chips and scenes, for sharing.")
    ] = False,
    scene_map: Annotated[
        Path | None,
        typer.Option(
            "--map",
            metavar="PREDICTIONS",
            help="Table of `rsft predict`: show its scene with the classes. RUN keeps the map for later reports.",
        ),
    ] = None,
) -> None:
    """Write RUN/report.html again from the files of the run. `rsft report RUN` does the same."""
    from rsft.evaluation.report.run_page import write_report
    from rsft.training.runs.reader import find_newest_run

    folder = find_newest_run(run)
    if scene_map is not None:
        _draw_maps(folder, scene_map)
    with progress() as report:
        path = write_report(folder, data, pictures=not no_pictures, progress=report)
    show_paths({"report": path})


def _draw_maps(run: Path, predictions: Path) -> None:
    """Draw the scenes of a predictions table into the run folder."""
    from rsft.evaluation.report.scene_maps import SceneMap, save_scene_maps
    from rsft.inference.review.scene_maps import draw_scene_maps
    from rsft.models.bundle.bundle import Bundle

    drawn = draw_scene_maps(predictions, Bundle.load(run).sha256)
    save_scene_maps(run, [(SceneMap(x.scene, x.chips, x.unlike, x.truth), x.picture) for x in drawn])


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
