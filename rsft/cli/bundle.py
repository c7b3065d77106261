"""`rsft bundle`: show, sign, verify, compare and publish bundles.

`rsft export`: write them for other programs.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from rsft.cli.display import console as display
from rsft.cli.display.console import console, progress, show_paths
from rsft.cli.display.evaluation import changes_table
from rsft.cli.options import (
    OUT,
    BundleArgument,
    FencedCommand,
    UnitOption,
    check_new_file,
    documented,
)
from rsft.cli.plugin_commands import ExtensibleGroup
from rsft.inference.engines.base import FORMATS
from rsft.utils.command_options import Argument, Option

app = typer.Typer(
    name="bundle",
    cls=ExtensibleGroup,
    help="Show, sign, verify, compare and publish bundles.",
    no_args_is_help=True,
)

_MEASURES = {"micro": "overall"}


@app.command("show", cls=FencedCommand)
@documented
def bundle_show(bundle: BundleArgument, as_json: bool = False) -> None:
    """Show a bundle: classes, contract of a chip, backbone, licenses, PEFT method, learned scales, accuracy."""
    from rsft.models.inspection.describe import describe_bundle
    from rsft.utils.licenses import describe_license

    description = describe_bundle(bundle)
    if as_json:
        typer.echo(json.dumps(description, indent=2))
        return
    if description["runs"] > 1:
        runs = f", average of {description['runs']} runs"
    else:
        runs = ""
    licenses = {}
    for entry in description["licenses"]:
        text = describe_license(entry["license"], entry["restrictions"])
        licenses[f"license, {entry['source']}"] = (
            f"{entry['name']}: {text}" if entry["name"] else text
        )
    accuracy = "not measured"
    confidence = "none: probabilities are not calibrated"
    metrics = description["metrics"]
    if metrics:
        shown = {
            name: 100 * entry["value"]
            for name, entry in metrics.items()
            if isinstance(entry, dict)
        }
        listed = ", ".join(
            f"{_MEASURES.get(name, name)} {value:.1f}" for name, value in shown.items()
        )
        accuracy = f"{listed} % on {metrics['chips']:,} chips of {metrics['split']}"
    fitted = description["confidence"]
    if fitted is not None:
        fit = (
            f"temperature {fitted['temperature']:.3g}, fitted on {fitted['chips']:,}"
            " validation chips"
        )
        confidence = "; ".join([fit, fitted["promise"], *fitted["notes"]])
    method = {
        key: value for key, value in description["method"].items() if value is not None
    }
    lines = {
        "bundle": description["folder"],
        "sha256": description["sha256"],
        "recipe": f"{description['name']}, rsft {description['rsft_version']}{runs}",
        "size": (
            f"{description['bytes'] / 1e6:.1f} MB, {description['parameters']:,}"
            " parameters"
        ),
        "backbone": (
            f"{description['backbone']['name']} "
            f" {description['backbone']['sha256'][:12]}"
        ),
        **licenses,
        "method": ", ".join(
            f"{value}" if key == "method" else f"{key} {value}"
            for key, value in method.items()
        ),
        **{f"chip, {key}": text for key, text in description["chip"].items()},
        "accuracy": accuracy,
        "confidence": confidence,
    }
    ignored = description["ignored"]
    if ignored:
        listed = ", ".join(f"{key} {value}" for key, value in ignored.items())
        lines["ignored"] = (
            f"{listed}: finetune --from takes them from the command alone"
        )
    width = max(map(len, lines))
    for name, text in lines.items():
        console.print(f"{name:<{width}}  {text}", soft_wrap=True)
    classes = description["classes"]
    title = f"{len(classes):,} classes, in the order of the logits"
    columns = ["class", "group", "training chips"]
    rows = [[row["name"], row["group"] or "-", f"{row['train']:,}"] for row in classes]
    if len(classes) > display.CLASSES_SHOWN:
        title = f"{len(classes):,} classes"
        columns = ["group", "classes"]
        groups = Counter(row["group"] or "-" for row in classes)
        rows = [[group, f"{count:,}"] for group, count in groups.items()]
    console.print(display.make_table(title, columns, rows, texts=columns[:-1]))
    scales = description["scales"]
    if scales:
        positions = list(
            dict.fromkeys(position for row in scales.values() for position in row)
        )
        rows = [
            [str(block), *(f"{row[x]:.2f}" if x in row else "" for x in positions)]
            for block, row in scales.items()
        ]
        console.print(
            display.make_table(
                "learned scales, block x position",
                ("block", *positions),
                rows,
                texts=(),
            )
        )


@app.command("sign", cls=FencedCommand)
@documented
def bundle_sign(bundle: Path, key: Annotated[Path, Option()]) -> None:
    """Sign a bundle or an export, so that others can verify who made it.

    Needs no network.

    Args:
        bundle: Folder of a bundle or an export, run folder, or runs/<recipe> for its
            newest run.
        key: Private key, a PEM file (P-256, P-384 or P-521).
    """
    from rsft.inference.export.metadata import METADATA_FILE, read_export_metadata
    from rsft.models.bundle.signature import sign_bundle

    if (bundle / METADATA_FILE).is_file():
        read_export_metadata(bundle)  # raises an error unless its files are intact
    show_paths({"signature": sign_bundle(bundle, key)})


@app.command("verify", cls=FencedCommand)
@documented
def bundle_verify(
    bundle: BundleArgument,
    sha256: str | None = None,
    key: Path | None = None,
    as_json: bool = False,
) -> None:
    """Check that all files are unchanged and that this machine can build the classifier; exit with status 1 if not.

    Args:
        sha256: Expected SHA-256, or its first digits, such as bundle_sha256 in a table
            of predictions.
        key: Public key, a PEM file: its owner must have signed the bundle.
    """
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


@app.command("import", cls=FencedCommand)
@documented
def bundle_import(
    adapter: Annotated[Path, Argument()],
    out: Annotated[Path, OUT],
    classes: Annotated[tuple[str, ...], Option(metavar="NAME,NAME")],
    size: Annotated[int, Option(min=1)],
    backbone: str | None = None,
    weights: Path | None = None,
    bands: tuple[str, ...] = ("R", "G", "B"),
    pool: str = "token",
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    overwrite: bool = False,
) -> None:
    """Make a bundle of a LoRA adapter that Hugging Face PEFT trained on a network of timm, with its linear head.

    The bundle takes images of bytes and gives the logits of the adapter. What it cannot
    hold is refused.

    Args:
        adapter: Folder of save_pretrained: adapter_config.json,
            adapter_model.safetensors, and the head.
        out: Folder of the bundle.
        classes: Names of the classes in the order of the logits, with commas.
        size: Side of the network's input, in pixels.
        backbone: Encoder (default: the base that the adapter names, if it is one of
            timm).
        weights: File of the encoder's weights (default: the published ones).
        bands: Names of the bands of an image, with commas; one band is repeated for all
            inputs.
        pool: Feature: token (class token) or avg (mean of the patch tokens or of the
            feature map).
        mean: Mean of each input in the training, 0-1, with commas (default: that of the
            encoder).
        std: Standard deviation of each input in the training, 0-1, with commas
            (default: that of the encoder).
    """
    from rsft.models.bundle.adapter_import import ImportedInput, import_adapter

    inputs = ImportedInput(size, bands, mean, std, pool)
    bundle = import_adapter(
        adapter,
        out,
        classes,
        inputs,
        backbone=backbone,
        weights=weights,
        overwrite=overwrite,
    )
    contract = bundle.contract
    method = bundle.recipe.peft.settings
    console.print(
        f"LoRA at {', '.join(method['positions'])} of {len(method['blocks'])} blocks,"
        " and the head"
    )
    console.print(
        f"images of bytes are normalized with mean {contract.mean} and std"
        f" {contract.std}",
        soft_wrap=True,
    )
    console.print(
        "probabilities are not calibrated, and the numbers of training chips are"
        " unknown"
    )
    show_paths({"bundle": out})


@app.command("from", cls=FencedCommand)
@documented
def bundle_from(
    checkpoint: Annotated[Path, Argument()],
    out: Annotated[Path | None, OUT] = None,
    data: Path | None = None,
    size: Annotated[int | None, Option(min=8)] = None,
    weights: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Make a bundle of a checkpoint of the task `rsft.torchgeo.PEFTClassificationTask`.

    Args:
        checkpoint: File .ckpt of Lightning's trainer.
        out: Folder of the bundle (default: bundle/ beside the checkpoint).
        data: Chip store of the training data, if the task was trained with a data
            module of TorchGeo.
        size: Side of the network's input in pixels, for a network of any input size
            with --data.
        weights: File of the frozen weights, if the task read them from a file.
    """
    from rsft.torchgeo import bundle_from_checkpoint

    out = out or checkpoint.with_name("bundle")
    check_new_file(out, overwrite)
    for note in bundle_from_checkpoint(checkpoint, out, data, size, weights):
        console.print(f"note: {note}", soft_wrap=True)
    show_paths({"bundle": out})


@app.command("diff", cls=FencedCommand)
@documented
def bundle_diff(first: BundleArgument, second: Path, as_json: bool = False) -> None:
    """Compare two bundles: recipe, classes, contract, backbone, licenses, accuracy and tensors.

    Args:
        second: Bundle to compare with.
    """
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
        table.add_row(
            "order of classes", *(", ".join(names) for names in differences["order"])
        )
    same = differences["sha256"][0] == differences["sha256"][1]
    console.print(
        "the bundles are identical"
        if same
        else table
        if table.row_count
        else "only the tensors differ"
    )
    columns = (
        "tensors",
        "in both",
        "only first",
        "only second",
        "largest difference",
        "relative",
    )
    rows = []
    for name, row in differences["tensors"].items():
        counts = (f"{row[key]:,}" for key in ("both", "first", "second"))
        rows.append(
            (
                name,
                *counts,
                *(
                    f"{row[key]:.3g}" if row[key] is not None else "-"
                    for key in ("max", "relative")
                ),
            )
        )
    if not same:
        console.print(display.make_table("", columns, rows))


@app.command("stac", cls=FencedCommand)
@documented
def bundle_stac(
    bundle: BundleArgument,
    out: Annotated[Path | None, OUT] = None,
    overwrite: bool = False,
) -> None:
    """Write a STAC item with the extension Machine Learning Model: input, output, settings and files of a bundle.

    It lists the exports beside the bundle as well.

    Args:
        out: File to write (default: item.json beside the bundle).
    """
    from rsft.inference.publish.stac_item import write_stac_item

    show_paths({"item": write_stac_item(bundle, out, overwrite=overwrite)})


@app.command("card", cls=FencedCommand)
@documented
def bundle_card(
    bundle: BundleArgument,
    out: Annotated[Path | None, OUT] = None,
    repository: Annotated[str | None, Option(metavar="OWNER/NAME")] = None,
    overwrite: bool = False,
) -> None:
    """Write the model card of a bundle for the Hugging Face Hub: classes, chips, results, use, limits, licenses.

    Args:
        out: File to write (default: README.md beside the bundle).
        repository: Repository on the Hub, for the commands in the card.
    """
    from rsft.inference.publish.hub import write_model_card

    show_paths(
        {
            "card": write_model_card(
                bundle, out, repository=repository, overwrite=overwrite
            )
        }
    )


@app.command("push", cls=FencedCommand)
@documented
def bundle_push(
    bundle: BundleArgument,
    repository: Annotated[str, Argument(metavar="OWNER/NAME")],
    to: Path | None = None,
    card: Path | None = None,
    item: bool = False,
    public: bool = False,
    yes: Annotated[bool, Option(short="-y")] = False,
    overwrite: bool = False,
) -> None:
    """Upload a bundle with its model card to the Hugging Face Hub, into a private repository.

    First, the command lists the files and asks. It uploads nothing else. Log in with
    `hf auth login`.

    `rsft predict` reads a folder that `hf download` wrote.

    Args:
        repository: Repository on the Hugging Face Hub.
        to: Folder to write the files to; nothing is uploaded.
        card: Model card to upload as README.md (default: that of `rsft bundle card`).
        item: Also upload a STAC item, item.json.
        public: Let everybody see the repository.
        yes: Upload without asking.
    """
    import tempfile

    from rsft.inference.publish.hub import (
        list_hub_files,
        upload_hub_folder,
        write_hub_folder,
    )
    from rsft.models.bundle.bundle import Bundle

    display.warn_about_licenses([bundle], unknown=True)
    texts = {
        key: text
        for key, text in Bundle.load(bundle).recipe.flatten().items()
        if isinstance(text, str)
    }
    paths = [
        f"{key} {text}"
        for key, text in texts.items()
        if Path(text).is_absolute() or text.startswith("~")
    ]
    if paths:
        note = (
            "note: recipe.yaml of the bundle names paths of this machine:"
            f" {', '.join(paths)}"
        )
        display.error_console.print(note, soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="rsft-") as temporary:
        folder = to or Path(temporary) / "hub"
        write_hub_folder(
            bundle, folder, repository, card=card, item=item, overwrite=overwrite
        )
        for name, size in list_hub_files(folder).items():
            console.print(f"{size:>12,} bytes  {name}", soft_wrap=True)
        visibility = "public" if public else "private"
        if to is not None:
            show_paths({"folder": to})
        elif yes or typer.confirm(
            f"upload these files to the {visibility} repository {repository}?"
        ):
            console.print(
                upload_hub_folder(folder, repository, public=public), soft_wrap=True
            )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


export_app = typer.Typer()


@export_app.command()
@documented
def export(
    bundle: BundleArgument,
    format_name: Annotated[
        str,
        Option(f"Format to write: {', '.join(FORMATS)}.", "--format", metavar="FORMAT"),
    ],
    precision: str = "fp32",
    out: Annotated[Path | None, OUT] = None,
    data: Path | None = None,
    max_loss: Annotated[float, Option(min=0)] = 0.5,
    whole: bool = False,
    unit: UnitOption = None,
    side: Annotated[int | None, Option(min=1)] = None,
    overwrite: bool = False,
) -> None:
    """Write a bundle as files for another program, together with its classes, contract and hash.

    onnx, openvino and torch-export files run without rsft. timm and peft folders are
    for these libraries and for transformers: the merged network with its head, or the
    LoRA with its head. mlflow is the whole pipeline as a model that MLflow serves.

    Every export is loaded again and compared with PyTorch, int8 by its accuracy and
    others by their outputs. An export that differs too much is deleted.

    If int8 loses too much accuracy in a group of classes, the first blocks stay in
    floating point.

    `rsft predict --engine OUT` classifies with an export that an engine can run,
    without PyTorch.

    Args:
        precision: Precision: fp32, bf16 or int8. Not every format supports all of them.
        out: Folder to write (default: exports/FORMAT-PRECISION beside the bundle).
        data: Chip store that the bundle was trained on (default: data.root of its
            recipe).
        max_loss: Percentage points of accuracy that int8 may lose, overall and in each
            group.
        whole: Write the whole pipeline, from the pixels of a chip to calibrated
            probabilities: onnx, and always mlflow.
        unit: Unit of the pixels, for a whole pipeline (default: the first one of the
            bundle).
        side: Chip size in pixels, for a whole pipeline (default: the bundle's center
            crop).
    """
    with display.show_waiting("loading PyTorch"):
        from rsft.inference.export.export import AccuracyLossError, export_bundle

    display.warn_about_licenses([bundle], unknown=True)
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
                unit=unit,
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
