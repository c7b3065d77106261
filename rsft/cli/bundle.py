"""`rsft bundle`: what a bundle is, whether it is whole, how it differs from another."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rsft.cli.display.console import CLASSES_SHOWN, console
from rsft.cli.options import BundleArgument, JsonOption

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

app = typer.Typer(help="What a bundle holds, whether it is whole, how two differ.", no_args_is_help=True)

_MEASURES = {"micro": "overall"}


@app.command("show")
def bundle_show(bundle: BundleArgument, as_json: JsonOption = False) -> None:
    """Classes, what a chip must be, backbone, method with its scales, accuracy, confidence."""
    from rsft.models.inspection.describe import describe

    facts = describe(bundle)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    size = f"{facts['bytes'] / 1e6:.1f} MB, {facts['parameters']:,} numbers"
    runs = f", the average of {facts['runs']} runs" if facts["runs"] > 1 else ""
    told = {
        "bundle": facts["folder"],
        "sha256": facts["sha256"],
        "recipe": f"{facts['name']}, rsft {facts['rsft_version']}{runs}",
        "size": size,
        "backbone": f"{facts['backbone']['name']}  {facts['backbone']['sha256'][:12]}",
        "method": ", ".join(f"{value}" if key == "method" else f"{key} {value}" for key, value in _method(facts)),
        **{f"chip, {key}": words for key, words in facts["chip"].items()},
        "accuracy": _accuracy(facts["metrics"]),
        "confidence": _confidence(facts["confidence"]),
    }
    width = max(map(len, told))
    for name, words in told.items():
        console.print(f"{name:<{width}}  {words}", soft_wrap=True, markup=False)
    console.print(_classes(facts["classes"]))
    if facts["scales"]:
        console.print(_scales(facts["scales"]))


@app.command("verify")
def bundle_verify(
    bundle: BundleArgument,
    sha256: Annotated[
        str | None,
        typer.Option(
            "--sha256", help="The hash that it must have, or its beginning: see a prediction's bundle_sha256."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Whether every file is as it was written, and the classifier can be made of it here; exit 1 if not."""
    from rsft.models.inspection.verify import verify

    verdict = verify(bundle, sha256)
    if as_json:
        typer.echo(json.dumps(vars(verdict) | {"folder": str(verdict.folder)}, indent=2))
    else:
        for words in verdict.sound:
            console.print(f"good   {words}", soft_wrap=True, markup=False)
        for words in verdict.faults:
            console.print(f"fault  {words}", soft_wrap=True, markup=False)
        if verdict.sha256:
            console.print(f"sha256 {verdict.sha256}", soft_wrap=True, markup=False)
    if verdict.faults:
        raise typer.Exit(1)


@app.command("diff")
def bundle_diff(
    first: BundleArgument,
    second: Annotated[Path, typer.Argument(help="Another.")],
    as_json: JsonOption = False,
) -> None:
    """Two bundles side by side: recipe, classes, chips, backbone, accuracy, and how far apart the tensors are."""
    from rich.table import Table

    from rsft.models.inspection.diff import compare

    found = compare(first, second)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    table = Table("", str(first), str(second), box=None, pad_edge=False)
    for part, rows in (
        ("", found["recipe"]),
        ("training chips of ", found["classes"]),
        ("chip, ", found["chip"]),
        ("backbone ", found["backbone"]),
        ("", found["metrics"]),
    ):
        for name, values in rows.items():
            table.add_row(f"{part}{_MEASURES.get(name, name)}", *map(_cell, values))
    if found["order"]:
        table.add_row("order of classes", *(", ".join(names) for names in found["order"]))
    same = found["sha256"][0] == found["sha256"][1]
    console.print("the same bundle" if same else table if table.row_count else "nothing differs but the tensors")
    if not same:
        console.print(_tensors(found["tensors"]))


def _method(facts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(key, value) for key, value in facts["method"].items() if value is not None]


def _accuracy(metrics: Mapping[str, Any]) -> str:
    if not metrics:
        return "not measured"
    shown = {name: found["value"] for name, found in metrics.items() if isinstance(found, dict)}
    listed = ", ".join(f"{_MEASURES.get(name, name)} {100 * value:.1f}" for name, value in shown.items())
    return f"{listed} % of {metrics['chips']:,} chips of {metrics['split']}"


def _confidence(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "none: probabilities are as the network gives them"
    words = f"temperature {found['temperature']:.3g}, by {found['chips']:,} validation chips; sets of"
    return "; ".join([f"{words} {found['coverage']:.0%}", *found["notes"]])


def _classes(classes: list[dict[str, Any]]) -> Table:
    """Groups alone where there are many."""
    few = len(classes) <= CLASSES_SHOWN
    counts = Counter(each["group"] or "-" for each in classes)
    rows = [(each["name"], each["group"] or "-", each["train"]) for each in classes] if few else list(counts.items())
    table = _table(f"{len(classes):,} classes{', in the order of the logits' if few else ''}")
    for name in ("class", "group") if few else ("group",):
        table.add_column(name)
    table.add_column("training chips" if few else "classes", justify="right")
    for *names, count in rows:
        table.add_row(*names, f"{count:,}")
    return table


def _scales(scales: Mapping[int, Mapping[str, float]]) -> Table:
    """Blocks down, positions across."""
    positions = list(dict.fromkeys(position for row in scales.values() for position in row))
    table = _table("learned scales, block x position")
    table.add_column("block", justify="right")
    for position in positions:
        table.add_column(position, justify="right")
    for block, row in scales.items():
        table.add_row(str(block), *(f"{row[each]:.2f}" if each in row else "" for each in positions))
    return table


def _tensors(kinds: Mapping[str, Mapping[str, Any]]) -> Table:
    table = _table("")
    for name in ("tensors", "in both", "only first", "only second", "largest difference", "relative"):
        table.add_column(name, justify="left" if name == "tensors" else "right", no_wrap=True)
    for name, row in kinds.items():
        apart = (f"{row[key]:.3g}" if row[key] is not None else "-" for key in ("max", "relative"))
        table.add_row(name, *(f"{row[key]:,}" for key in ("both", "first", "second")), *apart)
    return table


def _table(title: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, min_width=len(title))


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
