"""`rsft backbones` and `rsft weights`: list, download and convert encoders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from rsft.cli.display.console import (
    console,
    make_table,
    progress,
    show_paths,
    show_waiting,
    two_lines,
)
from rsft.cli.display.failures import show_error
from rsft.cli.options import (
    WordArgument,
    documented,
)
from rsft.cli.plugin_commands import ExtensibleGroup
from rsft.errors import RequestError, RsftError
from rsft.utils.command_options import Argument, Option

if TYPE_CHECKING:
    from rsft.backbones.card import PublishedEncoder, WeightsStatus


app = typer.Typer(
    name="backbones",
    cls=ExtensibleGroup,
    help="List the frozen encoders that a recipe can name.",
)


@app.command("ls")
@documented
def backbones_ls(word: WordArgument = "") -> None:
    """List encoders with size, input, license and the uses that it does not allow.

    Any other vision transformer of timm works too, by its timm name, or as timm:MODEL
    with a local file. Encoders that rsft knows and cannot use follow, with the reason.
    """
    from rsft.backbones.catalog import search_listing
    from rsft.backbones.unusable import search_unusable
    from rsft.utils.licenses import describe_license
    from rsft.utils.user_folders import weights_dir

    unusable = search_unusable(word)
    lines = []
    for x in search_listing(word, may_be_empty=bool(unusable)):
        license_text = describe_license(x.license, x.restrictions)
        bands = f"{_summarize_names(x.bands)} in {x.unit}"
        about = f"{bands}, {x.size} / {x.patch}, {license_text}"
        parameters = f"{x.parameters / 1e6:.1f} M"
        size = f"{4 * x.parameters / 1e6:,.0f}"  # in float32
        lines.append((two_lines(x.name, about), parameters, size, x.state))
    heading = "ready; bands in unit, side / patch in pixels, license"
    if lines:
        console.print(make_table("", (heading, "params", "MB", "weights"), lines))
    others = []
    for y in unusable:
        name = f"{y.name}, {describe_license(y.license, y.restrictions)}"
        others.append([two_lines(name, f"{y.reason}; use {y.instead}")])
    if others:
        console.print(make_table("", ["known, not usable; license"], others))
    show_paths({"weights": weights_dir()})


def _summarize_names(names: tuple[str, ...]) -> str:
    if len(names) < 5:
        return " ".join(names)
    return f"{names[0]} to {names[-1]} ({len(names)})"


weights_app = typer.Typer(
    name="weights",
    cls=ExtensibleGroup,
    help="Download, verify and convert the weights of encoders.",
)

NamesArgument = Annotated[
    list[str],
    Argument("Names of encoders, from `rsft backbones ls` or timm."),
]


@weights_app.command("get")
@documented
def weights_get(
    names: NamesArgument, bundle: Path | None = None, *, overwrite: bool
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
    if bundle:
        _check_bundle(names, bundle, overwrite)
    for encoder in encoders:
        with progress() as report:
            status = fetch_weights(encoder, report)
        _show(encoder, status)
    if bundle:
        _write_bundle(names[0], bundle)


def _check_bundle(names: Sequence[str], folder: Path, overwrite: bool) -> None:
    """Raise an error unless the weights of one encoder can become a bundle."""
    from rsft.backbones.loading import find_card
    from rsft.models.starting_bundle import find_classifier
    from rsft.utils.atomic_files import check_is_free

    if len(names) > 1:
        raise RequestError(
            "a bundle has the classifier of one encoder", "--bundle", "give one name"
        )
    find_classifier(find_card(names[0]))
    check_is_free(folder, overwrite)


def _write_bundle(name: str, folder: Path) -> None:
    """Write the starting bundle of an encoder, and say what it is."""
    from rsft.backbones.loading import find_card
    from rsft.data.chips.class_names import list_first_names
    from rsft.models.starting_bundle import find_classifier, write_starting_bundle

    card = find_card(name)
    with show_waiting(f"writing {folder}"):
        bundle = write_starting_bundle(card, folder)
    classes = list_first_names(bundle.classes)
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
    *,
    overwrite: bool,
) -> None:
    """Write the encoder in a checkpoint as plain tensors, without decoder and head.

    Args:
        source: Checkpoint: .safetensors, or a file of torch.save.
        target: New .safetensors file.
        name: Name of the encoder that the checkpoint contains.
    """
    from rsft.utils.atomic_files import check_is_free

    check_is_free(target, overwrite)
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


def _show(encoder: PublishedEncoder, status: WeightsStatus) -> None:
    state = ("verified", "green")
    evidence = f"published checksum: {status.published}"
    if not status.published:
        state = ("recorded", "yellow")
        evidence = f"no checksum is published; compared with {status.path.name}.sha256"
    size = f"{status.bytes / 1e6:,.1f} MB"
    console.print(Text.assemble(state, "  ", (encoder.name, "bold"), f"  {size}"))
    for line in (status.path, f"SHA-256 {status.sha256}", evidence):
        console.print(f"  {line}")
