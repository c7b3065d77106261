"""`rsft bundle`: show, sign, verify, compare and publish bundles. `rsft export`: write them for other programs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rsft.cli.display.console import (
    CLASSES_SHOWN,
    changes_table,
    console,
    error_console,
    progress,
    show_paths,
    warn_about_licenses,
)
from rsft.cli.options import BundleArgument, JsonOption, OverwriteOption, unit_name
from rsft.inference.engines.base import FORMATS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rich.table import Table


app = typer.Typer(name="bundle", help="Show, sign, verify, compare and publish bundles.", no_args_is_help=True)

_MEASURES = {"micro": "overall"}


@app.command("show")
def bundle_show(bundle: BundleArgument, as_json: JsonOption = False) -> None:
    """Show a bundle: classes, contract of a chip, backbone, licenses, PEFT method, learned scales, accuracy."""
    from rsft.models.inspection.describe import describe_bundle

    description = describe_bundle(bundle)
    if as_json:
        typer.echo(json.dumps(description, indent=2))
        return
    runs = f", average of {description['runs']} runs" if description["runs"] > 1 else ""
    method = {key: value for key, value in description["method"].items() if value is not None}
    lines = {
        "bundle": description["folder"],
        "sha256": description["sha256"],
        "recipe": f"{description['name']}, rsft {description['rsft_version']}{runs}",
        "size": f"{description['bytes'] / 1e6:.1f} MB, {description['parameters']:,} parameters",
        "backbone": f"{description['backbone']['name']}  {description['backbone']['sha256'][:12]}",
        **_licenses(description["licenses"]),
        "method": ", ".join(f"{value}" if key == "method" else f"{key} {value}" for key, value in method.items()),
        **{f"chip, {key}": text for key, text in description["chip"].items()},
        "accuracy": _accuracy(description["metrics"]),
        "confidence": _confidence(description["confidence"]),
    }
    width = max(map(len, lines))
    for name, text in lines.items():
        console.print(f"{name:<{width}}  {text}", soft_wrap=True)
    console.print(_classes(description["classes"]))
    if description["scales"]:
        console.print(_scales(description["scales"]))


@app.command("sign")
def bundle_sign(
    bundle: BundleArgument,
    key: Annotated[Path, typer.Option("--key", help="Private key, a PEM file (P-256, P-384 or P-521).")],
) -> None:
    """Sign a bundle, so that others can verify who made it. Needs no network."""
    from rsft.models.bundle.signature import sign_bundle

    show_paths({"signature": sign_bundle(bundle, key)})


@app.command("verify")
def bundle_verify(
    bundle: BundleArgument,
    sha256: Annotated[
        str | None,
        typer.Option(
            "--sha256", help="Expected SHA-256, or its first digits, such as bundle_sha256 in a table of predictions."
        ),
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", help="Public key, a PEM file: its owner must have signed the bundle.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check that all files are unchanged and that this machine can build the classifier; exit with status 1 if not."""
    from rsft.models.inspection.verify import verify_bundle

    report = verify_bundle(bundle, sha256, key)
    if as_json:
        typer.echo(json.dumps(vars(report) | {"folder": str(report.folder)}, indent=2))
    else:
        for check in report.sound:
            console.print(f"ok     {check}", soft_wrap=True)
        for fault in report.faults:
            console.print(f"fault  {fault}", soft_wrap=True)
        if report.sha256:
            console.print(f"sha256 {report.sha256}", soft_wrap=True)
    if report.faults:
        raise typer.Exit(1)


@app.command("diff")
def bundle_diff(
    first: BundleArgument,
    second: Annotated[Path, typer.Argument(help="Bundle to compare with.")],
    as_json: JsonOption = False,
) -> None:
    """Compare two bundles: recipe, classes, contract, backbone, licenses, accuracy and tensors."""
    from rich.table import Table

    from rsft.models.inspection.describe import diff_bundles

    differences = diff_bundles(first, second)
    if as_json:
        typer.echo(json.dumps(differences, indent=2))
        return
    table = Table("", str(first), str(second), box=None, pad_edge=False)
    for prefix, rows in (
        ("", differences["recipe"]),
        ("training chips of ", differences["classes"]),
        ("chip, ", differences["chip"]),
        ("backbone ", differences["backbone"]),
        ("license, ", differences["licenses"]),
        ("", differences["metrics"]),
    ):
        for name, values in rows.items():
            table.add_row(f"{prefix}{_MEASURES.get(name, name)}", *map(_cell, values))
    if differences["order"]:
        table.add_row("order of classes", *(", ".join(names) for names in differences["order"]))
    same = differences["sha256"][0] == differences["sha256"][1]
    console.print("the bundles are identical" if same else table if table.row_count else "only the tensors differ")
    if not same:
        console.print(_tensors(differences["tensors"]))


@app.command("stac")
def bundle_stac(
    bundle: BundleArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write (default: item.json beside the bundle).")
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a STAC item with the extension Machine Learning Model: input, output, settings and files of a bundle.

    It lists the exports beside the bundle as well.
    """
    from rsft.inference.publish.stac_item import write_stac_item

    show_paths({"item": write_stac_item(bundle, out, overwrite=overwrite)})


@app.command("card")
def bundle_card(
    bundle: BundleArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write (default: README.md beside the bundle).")
    ] = None,
    repository: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Repository on the Hub, for the commands in the card.")
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write the model card of a bundle for the Hugging Face Hub: classes, chips, results, use, limits, licenses."""
    from rsft.inference.publish.model_card import write_model_card

    show_paths({"card": write_model_card(bundle, out, repository=repository, overwrite=overwrite)})


@app.command("push")
def bundle_push(
    bundle: BundleArgument,
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository on the Hugging Face Hub.")],
    to: Annotated[Path | None, typer.Option("--to", help="Folder to write the files to; nothing is uploaded.")] = None,
    card: Annotated[
        Path | None, typer.Option(help="Model card to upload as README.md (default: that of `rsft bundle card`).")
    ] = None,
    item: Annotated[bool, typer.Option("--item", help="Also upload a STAC item, item.json.")] = False,
    public: Annotated[bool, typer.Option("--public", help="Let everybody see the repository.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Upload without asking.")] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Upload a bundle with its model card to the Hugging Face Hub, into a private repository.

    First, the command lists the files and asks. It uploads nothing else. Log in with `hf auth login`.

    `rsft predict` reads a folder that `hf download` wrote.
    """
    import tempfile

    from rsft.inference.publish.hub import find_local_paths, list_hub_files, upload_hub_folder, write_hub_folder
    from rsft.models.bundle.bundle import Bundle

    warn_about_licenses([bundle], unknown=True)
    if paths := find_local_paths(Bundle.load(bundle)):
        listed = ", ".join(f"{key} {path}" for key, path in paths.items())
        error_console.print(f"note: recipe.yaml of the bundle names paths of this machine: {listed}", soft_wrap=True)
    if to is not None:
        write_hub_folder(bundle, to, repository, card=card, item=item, overwrite=overwrite)
        _show_hub_files(list_hub_files(to))
        show_paths({"folder": to})
        return
    with tempfile.TemporaryDirectory(prefix="rsft-") as temporary:
        folder = write_hub_folder(bundle, Path(temporary) / "hub", repository, card=card, item=item)
        _show_hub_files(list_hub_files(folder))
        visibility = "public" if public else "private"
        if yes or typer.confirm(f"upload these files to the {visibility} repository {repository}?"):
            console.print(upload_hub_folder(folder, repository, public=public), soft_wrap=True)


def _show_hub_files(sizes: Mapping[str, int]) -> None:
    for name, size in sizes.items():
        console.print(f"{size:>12,} bytes  {name}", soft_wrap=True)


def _licenses(entries: list[dict[str, Any]]) -> dict[str, str]:
    """Return one line per source, such as "license of the data" -> "DOTA: non-commercial"."""
    from rsft.utils.licenses import describe_license

    lines = {}
    for entry in entries:
        text = describe_license(entry["license"], entry["restrictions"])
        lines[f"license, {entry['source']}"] = f"{entry['name']}: {text}" if entry["name"] else text
    return lines


def _accuracy(metrics: Mapping[str, Any]) -> str:
    if not metrics:
        return "not measured"
    shown = {name: entry["value"] for name, entry in metrics.items() if isinstance(entry, dict)}
    listed = ", ".join(f"{_MEASURES.get(name, name)} {100 * value:.1f}" for name, value in shown.items())
    return f"{listed} % on {metrics['chips']:,} chips of {metrics['split']}"


def _confidence(confidence: Mapping[str, Any] | None) -> str:
    if confidence is None:
        return "none: probabilities are not calibrated"
    fit = f"temperature {confidence['temperature']:.3g}, fitted on {confidence['chips']:,} validation chips"
    return "; ".join([fit, confidence["promise"], *confidence["notes"]])


def _classes(classes: list[dict[str, Any]]) -> Table:
    """Return a table of the classes, or of their groups if the bundle has many classes."""
    title = f"{len(classes):,} classes"
    if len(classes) > CLASSES_SHOWN:
        counts = Counter(row["group"] or "-" for row in classes)
        return _table(title, ("group", "classes"), [(group, f"{count:,}") for group, count in counts.items()], 1)
    rows = [(row["name"], row["group"] or "-", f"{row['train']:,}") for row in classes]
    return _table(f"{title}, in the order of the logits", ("class", "group", "training chips"), rows, 2)


def _scales(scales: Mapping[int, Mapping[str, float]]) -> Table:
    """Return a table of the scales, with blocks down and positions across."""
    positions = list(dict.fromkeys(position for row in scales.values() for position in row))
    rows = [
        (str(block), *(f"{row[position]:.2f}" if position in row else "" for position in positions))
        for block, row in scales.items()
    ]
    return _table("learned scales, block x position", ("block", *positions), rows)


def _tensors(kinds: Mapping[str, Mapping[str, Any]]) -> Table:
    columns = ("tensors", "in both", "only first", "only second", "largest difference", "relative")
    rows = []
    for name, row in kinds.items():
        differences = (f"{row[key]:.3g}" if row[key] is not None else "-" for key in ("max", "relative"))
        rows.append((name, *(f"{row[key]:,}" for key in ("both", "first", "second")), *differences))
    return _table("", columns, rows, 1)


def _table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]], text_columns: int = 0) -> Table:
    """Return a table; columns after the first `text_columns` are numbers, which are aligned to the right."""
    from rich import box
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, min_width=len(title))
    for number, name in enumerate(columns):
        is_text = number < text_columns
        table.add_column(name, justify="left" if is_text else "right", no_wrap=not is_text)
    for row in rows:
        table.add_row(*row)
    return table


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


export_app = typer.Typer()


@export_app.command()
def export(
    bundle: BundleArgument,
    format_name: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help=f"Format to write: {', '.join(FORMATS)}.")
    ],
    precision: Annotated[
        str, typer.Option(help="Precision: fp32, bf16 or int8. Not every format supports all of them.")
    ] = "fp32",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder to write (default: exports/FORMAT-PRECISION beside the bundle)."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Chip store that the bundle was trained on (default: data.root of its recipe).")
    ] = None,
    max_loss: Annotated[
        float, typer.Option(min=0, help="Percentage points of accuracy that int8 may lose, overall and in each group.")
    ] = 0.5,
    whole: Annotated[
        bool,
        typer.Option(
            "--whole",
            help="Write the whole pipeline, from the pixels of a chip to calibrated probabilities. Only onnx.",
        ),
    ] = False,
    unit: Annotated[
        str | None, typer.Option(help="Unit of the pixels, for --whole (default: the first one of the bundle).")
    ] = None,
    side: Annotated[
        int | None, typer.Option(min=1, help="Chip size in pixels, for --whole (default: the bundle's center crop).")
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a bundle as files for another program, together with its classes, contract and hash.

    onnx, openvino and torch-export files run without rsft. timm and peft files only contain weights: those of the
    merged network and its head, or those of the LoRA.

    Every export is loaded again and compared with PyTorch, int8 by its accuracy and others by their outputs. An export
    that differs too much is deleted.

    If int8 loses too much accuracy in a group of classes, the first blocks stay in floating point.

    `rsft predict --engine OUT` classifies with an export that an engine can run, without PyTorch.
    """
    from rsft.inference.export.export import export_bundle
    from rsft.inference.export.parity import AccuracyLossError

    warn_about_licenses([bundle], unknown=True)
    try:
        with progress() as report:
            result = export_bundle(
                bundle,
                format_name,
                precision,
                out,
                data=data,
                max_loss=max_loss,
                whole=whole,
                unit=unit_name(unit),
                side=side,
                overwrite=overwrite,
                progress=report,
            )
    except AccuracyLossError as error:
        console.print(changes_table(error.table))
        raise
    if result.changes:
        console.print(changes_table(result.changes))
    for line in result.notes:
        console.print(line, soft_wrap=True)
    show_paths({"export": result.folder})
