"""`rsft backbones` and `rsft weights`: list, check, download and convert encoders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from rsft.cli.display.console import (
    console,
    make_table,
    print_rows,
    progress,
    show_paths,
    show_waiting,
    two_lines,
)
from rsft.cli.display.failures import show_error
from rsft.cli.options import (
    WordArgument,
    check_new_file,
    documented,
)
from rsft.cli.plugin_commands import ExtensibleGroup
from rsft.errors import RequestError
from rsft.utils.atomic_files import check_is_free
from rsft.utils.command_options import Argument, Option

if TYPE_CHECKING:
    from rsft.backbones.card import ListedEncoder, PublishedEncoder, WeightsStatus


app = typer.Typer(
    name="backbones",
    cls=ExtensibleGroup,
    help="List the frozen encoders that a recipe can name, and check one.",
    no_args_is_help=True,
)


@app.command("ls")
@documented
def backbones_ls(word: WordArgument = "", as_json: bool = False) -> None:
    """List encoders with size, input, license and the uses that it does not allow.

    Any other vision transformer of timm works too, by its timm name, or as timm:MODEL
    with a local file. Encoders that rsft knows and cannot use follow, with the reason.
    """
    from rsft.backbones.catalog import search_listing
    from rsft.backbones.unusable import search_unusable
    from rsft.utils.download import weights_dir
    from rsft.utils.licenses import describe_license

    unusable = search_unusable(word)
    rows = [_row(x) for x in search_listing(word, may_be_empty=bool(unusable))]
    if as_json:
        for x in unusable:
            state = {"state": "known, not usable", "restrictions": x.restrictions}
            rows.append(asdict(x) | state)
        typer.echo(json.dumps(rows, indent=2))
        return
    lines: list[tuple[str | Text, ...]] = []
    for row in rows:
        license_text = describe_license(row["license"], row["restrictions"])
        bands = f"{_summarize_names(row['bands'])} in {row['unit']}"
        about = f"{bands}, {row['size']} / {row['patch']}, {license_text}"
        parameters = f"{row['parameters'] / 1e6:.1f} M"
        size = f"{row['bytes'] / 1e6:,.0f}"
        lines.append((two_lines(row["name"], about), parameters, size, row["weights"]))
    heading = "ready; bands in unit, side / patch in pixels, license"
    if lines:
        console.print(make_table("", (heading, "params", "MB", "weights"), lines))
    others = []
    for x in unusable:
        name = f"{x.name}, {describe_license(x.license, x.restrictions)}"
        others.append([two_lines(name, f"{x.reason}; use {x.instead}")])
    if others:
        console.print(make_table("", ["known, not usable; license"], others))
    show_paths({"weights": weights_dir()})


@app.command("check")
@documented
def backbones_check(
    name: str, size: int | None = None, weights: Path | None = None
) -> None:
    """Load an encoder, and show its features on fixed noise images and its speed.

    Args:
        name: Name of an encoder, from `rsft backbones ls` or timm.
        size: Side of the input in pixels (default: the native size).
        weights: Weights file (default: the file that `rsft weights ls` lists).
    """
    from rsft.backbones.card import weights_path
    from rsft.backbones.encoder_check import BATCH_SIZE, check_encoder
    from rsft.backbones.loading import find_card, load_backbone
    from rsft.utils.licenses import describe_license, license_restrictions

    card = find_card(name)
    side = size or card.size
    with show_waiting(f"loading and running {card.name}"):
        backbone = load_backbone(card.name, side, weights)
        result = check_encoder(backbone, side)
    state = backbone.vit.state_dict()
    parameters = sum(x.numel() for x in backbone.vit.parameters())
    loaded = f"{len(state)} of {len(state)} loaded, {parameters:,} parameters"
    if backbone.left_out:
        loaded += f", left out of the file: {_summarize_names(backbone.left_out)}"
    file: object = weights
    if weights is None:
        file = "random" if card.weights is None else weights_path(card)
    if card.is_frozen:
        file = "in the network"
    restrictions = license_restrictions(backbone.license)
    print_rows(
        {
            "backbone": f"{card.name}: {card.about}",
            "weights": file,
            "license": describe_license(backbone.license, restrictions),
            "encoder": f"SHA-256 {backbone.sha256}",
            "tensors": loaded,
            "input": f"{_summarize_names(card.bands)} in {card.unit}, {side} x {side}",
            "output": f"{result.tokens} tokens x {backbone.width}",
            "speed": f"{result.speed:,.1f} images/s in batches of {BATCH_SIZE}"
            f" ({result.device})",
        }
    )
    rows = []
    for feature, x in result.features.items():
        rows.append((feature, f"{x[0]:.5f}", f"{x[1]:.5f}", f"{x[2]:.4f}"))
    columns = (f"features of {BATCH_SIZE} noise images", "mean", "std", "norm")
    console.print(make_table("", columns, rows))


def _row(encoder: ListedEncoder) -> dict[str, Any]:
    names = (
        "name about parameters size patch bands unit mean std sensor license"
        " restrictions"
    )
    row = {name: getattr(encoder, name) for name in names.split(" ")}
    row |= {"state": "ready", "weights": encoder.state, "path": str(encoder.path or "")}
    return row | {"bytes": 4 * encoder.parameters}  # in float32


def _summarize_names(names: tuple[str, ...]) -> str:
    if len(names) < 5:
        return " ".join(names)
    return f"{names[0]} to {names[-1]} ({len(names)})"


weights_app = typer.Typer(
    name="weights",
    cls=ExtensibleGroup,
    help="Download, verify and convert the weights of encoders.",
    no_args_is_help=True,
)

NamesArgument = Annotated[
    list[str],
    Argument("Names of encoders, from `rsft backbones ls` or timm."),
]


@weights_app.command("ls")
@documented
def weights_ls(word: WordArgument = "", as_json: bool = False) -> None:
    """List the weights files of the encoders: size, checksum, and whether present."""
    from rsft.backbones.catalog import search_listing
    from rsft.utils.download import weights_dir

    rows = [_weights_row(encoder) for encoder in search_listing(word)]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    lines: list[tuple[str | Text, ...]] = []
    for row in rows:
        size = f"{row['bytes'] / 1e6:,.1f}" if row["bytes"] else "?"
        present = "yes" if row["here"] else "-"
        cell = two_lines(row["name"], row["file"] or "random")
        lines.append((cell, size, row["checksum"], present))
    columns = ("backbone, file", "MB", "checksum", "present")
    console.print(make_table("", columns, lines))
    show_paths({"weights": weights_dir()})


@weights_app.command("get")
@documented
def weights_get(
    names: NamesArgument, bundle: Path | None = None, overwrite: bool = False
) -> None:
    """Download and verify weights. An interrupted download is resumed.

    Args:
        names: Names of encoders, from `rsft backbones ls` or timm.
        bundle: New folder for a bundle of the classifier in the weights of one encoder,
            such as ai2-sentinel1-vessels. It needs no labels.
    """
    from rsft.backbones.card import fetch_weights
    from rsft.backbones.catalog import find_encoder

    # an unknown name fails before the first download
    encoders = [find_encoder(name) for name in names]
    if bundle is not None:
        _check_bundle(names, bundle, overwrite)
    for encoder in encoders:
        with progress() as report:
            status = fetch_weights(encoder, report)
        _show(encoder, status)
    if bundle is not None:
        _write_bundle(names[0], bundle)


def _check_bundle(names: Sequence[str], folder: Path, overwrite: bool) -> None:
    """Raise an error unless the weights of one encoder can become a bundle."""
    from rsft.backbones.loading import find_card
    from rsft.models.starting_bundle import find_classifier

    if len(names) > 1:
        message = "a bundle has the classifier of one encoder"
        raise RequestError(message, "--bundle", "give one name")
    find_classifier(find_card(names[0]))
    check_is_free(folder, overwrite)


def _write_bundle(name: str, folder: Path) -> None:
    """Write the starting bundle of an encoder, and say what it is."""
    from rsft.backbones.loading import find_card
    from rsft.models.starting_bundle import find_classifier, write_starting_bundle

    card = find_card(name)
    with show_waiting(f"writing {folder}"):
        bundle = write_starting_bundle(card, folder)
    classes = ", ".join(bundle.classes)
    console.print(f"{folder}: a bundle of {len(bundle.classes)} classes: {classes}")
    console.print(f"left out: {find_classifier(card).left_out}")
    console.print("it is not calibrated, because that needs labeled chips")


@weights_app.command("verify")
@documented
# typer takes no None for a list of arguments
def weights_verify(
    names: NamesArgument = [],  # noqa: B006
) -> None:
    """Verify weights against the published or recorded digest (default: all files)."""
    from rsft.backbones.card import verify_weights
    from rsft.backbones.catalog import find_encoder, listed_encoders
    from rsft.errors import RsftError

    present = (
        encoder
        for encoder in listed_encoders()
        if encoder.path and encoder.path.is_file()
    )
    chosen = [find_encoder(name) for name in names] or present
    faults = 0
    for encoder in chosen:
        try:
            _show(encoder, verify_weights(encoder))
        except RsftError as error:
            show_error(error)
            faults += 1
    if faults:
        raise typer.Exit(1)


@weights_app.command("convert")
@documented
def weights_convert(
    source: Path,
    target: Path,
    name: Annotated[str, Option(name="--as")],
    overwrite: bool = False,
) -> None:
    """Write the encoder in a checkpoint as plain tensors, without decoder and head.

    Args:
        source: Checkpoint: .safetensors, or a file of torch.save.
        target: New .safetensors file.
        name: Name of the encoder that the checkpoint contains.
    """
    check_new_file(target, overwrite)
    with show_waiting(f"converting {source.name}"):
        from rsft.backbones.convert import convert_weights
        from rsft.backbones.loading import find_card

        converted = convert_weights(find_card(name), source, target)
    line = f"{target}: {converted.count} tensors of {name}"
    if converted.left_out:
        line += (
            f"; left out: {_summarize_names(converted.left_out)}, all listed in the"
            " metadata of the file"
        )
    console.print(line)


def _weights_row(encoder: ListedEncoder) -> dict[str, Any]:
    from rsft.backbones.card import describe_checksum

    path = encoder.path
    remote = encoder.remote
    is_present = path is not None and path.is_file()
    row: dict[str, Any] = {
        "name": encoder.name,
        "file": path and path.name,
        "path": path and str(path),
        "here": is_present,
        "bytes": None,
        "checksum": describe_checksum(encoder),
        "url": None,
        "page": None,
        "license": encoder.license,
        "restrictions": encoder.restrictions,
    }
    if remote:
        row |= {"bytes": remote.bytes, "url": remote.url, "page": remote.page}
    if path is not None and is_present:
        row["bytes"] = path.stat().st_size
    return row


def _show(encoder: PublishedEncoder, status: WeightsStatus) -> None:
    style = "yellow" if status.state == "first seen" else "green"
    size = f"{status.bytes / 1e6:,.1f} MB"
    console.print(
        Text.assemble((status.state, style), "  ", (encoder.name, "bold"), f"  {size}"),
    )
    for line in (status.path, f"SHA-256 {status.sha256}", status.evidence):
        console.print(f"  {line}")
