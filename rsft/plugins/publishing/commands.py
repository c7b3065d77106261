"""Commands that describe and publish bundles and chip stores."""

import tempfile
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from rsft.cli.data import RootArgument
from rsft.cli.display import console as display
from rsft.cli.display.console import console, show_paths
from rsft.cli.options import OUT, BundleArgument, check_bundle, documented
from rsft.utils.command_options import Access, Argument, Option

DescribedBundleArgument = Annotated[
    Path,
    Argument(
        "Bundle folder, run folder, or runs/<recipe> for its newest run.",
        access=Access.BUNDLE | Access.BESIDE,
    ),
    check_bundle,
]


@documented
def bundle_stac(
    bundle: DescribedBundleArgument,
    out: Annotated[Path | None, OUT] = None,
    *,
    overwrite: bool,
) -> None:
    """Write a STAC item: input, output and files of a bundle.

    It has the extension Machine Learning Model.

    Args:
        out: File to write (default: item.json beside the bundle).
    """
    from rsft.plugins.publishing.stac_item import write_stac_item

    show_paths({"item": write_stac_item(bundle, out, overwrite=overwrite)})


@documented
def bundle_card(
    bundle: DescribedBundleArgument,
    out: Annotated[Path | None, OUT] = None,
    *,
    overwrite: bool,
) -> None:
    """Write the model card of a bundle for the Hugging Face Hub.

    It has the classes, chips, results, use, limits and licenses.

    Args:
        out: File to write (default: README.md beside the bundle).
    """
    from rsft.plugins.publishing.hub import write_model_card

    show_paths({"card": write_model_card(bundle, out, overwrite=overwrite)})


@documented
def bundle_push(
    bundle: BundleArgument,
    repository: Annotated[str, Argument(metavar="OWNER/NAME")],
    out: Annotated[
        Path | None, replace(OUT, access=Access.WRITE | Access.OFFLINE)
    ] = None,
    public: bool = False,
    yes: Annotated[bool, Option(short="-y")] = False,
    *,
    overwrite: bool,
) -> None:
    """Upload a bundle, its model card and STAC item to the Hugging Face Hub, privately.

    First, the command lists the files and asks. It uploads nothing else. Log in with
    `hf auth login`.

    `rsft predict` reads a folder that `hf download` wrote.

    Args:
        repository: Repository on the Hugging Face Hub.
        out: Folder to write the files to; nothing is uploaded.
        public: Let everybody see the repository.
        yes: Do not ask for confirmation.
    """
    from rsft.plugins.publishing.hub import (
        list_hub_files,
        upload_hub_folder,
        write_hub_folder,
    )

    display.warn_about_licenses(bundle)
    _warn_about_paths(bundle)
    with tempfile.TemporaryDirectory(prefix="rsft-") as temporary:
        folder = out or Path(temporary) / "hub"
        write_hub_folder(bundle, folder, repository, overwrite=overwrite)
        for name, size in list_hub_files(folder).items():
            console.print(f"{size:>12,} bytes  {name}")
        visibility = "public" if public else "private"
        question = f"upload these files to the {visibility} repository {repository}?"
        if out is not None:
            show_paths({"folder": out})
        elif yes or typer.confirm(question):
            console.print(upload_hub_folder(folder, repository, public=public))


def _warn_about_paths(bundle: Path) -> None:
    """Say which keys of the recipe of a bundle are paths of this machine."""
    from rsft.models.bundle.bundle import Bundle

    paths = []
    for key, text in Bundle.load(bundle).recipe.flatten().items():
        if isinstance(text, str) and (Path(text).is_absolute() or text[:1] == "~"):
            paths.append(f"{key} {text}")
    if paths:
        note = "note: recipe.yaml of the bundle names paths of this machine:"
        display.error_console.print(f"{note} {', '.join(paths)}")


@documented
def data_croissant(
    root: RootArgument,
    url: str | None = None,
    creator: str | None = None,
    published: Annotated[date | None, Option(metavar="DATE")] = None,
    *,
    overwrite: bool,
) -> None:
    """Describe a chip store as croissant.json, for catalogs and data loaders.

    It has the fields of the manifest, the classes with their counts, the license, the
    sources and the findings of the audit, with terms of Croissant 1.1, GeoCroissant 1.0
    and Croissant RAI 1.0.

    Args:
        url: Address of the page of the data set.
        creator: Organization that made the data set.
        published: Date of publication, as YYYY-MM-DD.
    """
    from rsft.plugins.publishing.croissant import Publication, write_croissant

    publication = Publication(
        url, creator, published.isoformat() if published else None
    )
    show_paths({"croissant": write_croissant(root, publication, overwrite=overwrite)})
