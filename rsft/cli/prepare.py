"""`rsft prepare`: raw data into chips."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rsft.cli.display.console import console, progress, show_paths, show_store
from rsft.cli.options import JobsOption, OverwriteOption, RootOption, SeedOption, band_names

if TYPE_CHECKING:
    from rsft.data.chips.store import ChipStore

app = typer.Typer(help="Turn raw data into a folder of chips with one manifest.", no_args_is_help=True)

ValOption = Annotated[
    float, typer.Option("--val", help="Share of each class for validation, where SOURCE has no split.")
]
ListsOption = Annotated[Path | None, typer.Option("--lists", help="Folder of the list files, where not in SOURCE.")]

_NAMED = 10  # classes; a longer list is no longer read


def run_prepare(prepare: Callable[..., ChipStore]) -> ChipStore:
    """Call `prepare`, which lacks its progress alone; show the store, and the classes that a split has no chip of."""
    from rsft.data.chips.summary import count_chips, missing_classes

    with progress() as report:
        store = prepare(progress=report)
    show_store(store)
    for split, names in missing_classes(count_chips(store)).items():
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        console.print(f"no chip in {split}: {', '.join(names[:_NAMED])}{more}", soft_wrap=True, markup=False)
    return store


@app.command("demo")
def demo(root: RootOption, jobs: JobsOption = 2, seed: SeedOption = 0, overwrite: OverwriteOption = False) -> None:
    """Simulate SAR ship chips (FUSAR-Ship and SRSDD formats) and make them a long-tailed data set of four classes."""
    from rsft.data.prepare.demo import prepare_demo

    run_prepare(partial(prepare_demo, root, jobs=jobs, seed=seed, overwrite=overwrite))


@app.command("folder")
def folder(
    source: Annotated[
        Path,
        typer.Argument(
            help="Class folders (with train/ val/ test/ above them or not), path-label lists, or a CSV of path,class."
        ),
    ],
    root: RootOption,
    imbalance: Annotated[
        float | None, typer.Option(min=1, help="Make the training split long-tailed: largest class / smallest class.")
    ] = None,
    val: ValOption = 0.2,
    names: Annotated[Path | None, typer.Option(help="Text file of class names: one `folder name` pair a line.")] = None,
    unit: Annotated[
        str | None, typer.Option(help="Of the pixels, which floats must say: amplitude, intensity, sigma0, db.")
    ] = None,
    bands: Annotated[
        str | None, typer.Option(help="Names in the order of the files, such as VV,VH; gray or R,G,B if left out.")
    ] = None,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> None:
    """Make chips from a tree of class folders; pixels and files stay as they are."""
    from rsft.data.prepare.image_folder import prepare_folder

    run_prepare(
        partial(
            prepare_folder,
            source,
            root,
            imbalance=imbalance,
            val=val,
            names=names,
            unit=unit,
            bands=band_names(bands),
            seed=seed,
            overwrite=overwrite,
        )
    )


@app.command("dota")
def dota(
    source: Annotated[Path, typer.Argument(help="DOTA as unpacked: train/ and val/, or images/ and labelTxt/.")],
    root: RootOption,
    version: Annotated[Literal["1.0", "1.5", "2.0"], typer.Option(help="Of the labels.")] = "1.0",
    classes: Annotated[int, typer.Option(help="15, as in v1.0, or 18.")] = 15,
    margin: Annotated[int, typer.Option(help="Pixels added around the box of an object.")] = 0,
    min_side: Annotated[int, typer.Option(help="Leave out objects with a shorter side, in pixels.")] = 4,
    val: ValOption = 0.2,
    jobs: JobsOption = 2,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> None:
    """Cut every object of DOTA out of its image: the horizontal bounding box of its rotated box."""
    from rsft.data.prepare.dota import prepare_dota

    run_prepare(
        partial(
            prepare_dota,
            source,
            root,
            version=version,
            classes=classes,
            margin=margin,
            min_side=min_side,
            val=val,
            jobs=jobs,
            seed=seed,
            overwrite=overwrite,
        )
    )


@app.command("opensarship")
def opensarship(
    source: Annotated[Path, typer.Argument(help="OpenSARShip as unpacked: the folder of its scenes.")],
    root: RootOption,
    product: Annotated[
        Literal["uint8", "cal", "patch"], typer.Option(help="Bytes for the eye, sigma0 (linear) or amplitude.")
    ] = "uint8",
    classes: Annotated[
        Literal["3", "typed"], typer.Option(help="Cargo, Tanker and Other, or types as the files name them.")
    ] = "3",
    val: Annotated[float, typer.Option(help="Share of each class for validation, by whole scenes.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of each class for the test, by whole scenes.")] = 0.2,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> None:
    """Make chips of Sentinel-1 ships, VH and VV; no scene is in two splits."""
    from rsft.data.prepare.opensarship import prepare_opensarship

    run_prepare(
        partial(
            prepare_opensarship,
            source,
            root,
            product=product,
            classes=classes,
            val=val,
            test=test,
            seed=seed,
            overwrite=overwrite,
        )
    )


@app.command("cifar100-lt")
def cifar100_lt(
    source: Annotated[
        Path, typer.Argument(help="Folder or archive of CIFAR-100: as published for Python, or as PNG class folders.")
    ],
    root: RootOption,
    ratio: Annotated[float, typer.Option(min=1, help="Largest class / smallest class of the training split.")] = 100,
    val: Annotated[float, typer.Option(help="Share of each class of the test images for validation.")] = 0.1,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> None:
    """Make CIFAR-100 long-tailed; at a ratio of 100, 10,847 training images."""
    from rsft.data.prepare.cifar100 import prepare_cifar100

    run_prepare(partial(prepare_cifar100, source, root, ratio=ratio, val=val, seed=seed, overwrite=overwrite))


@app.command("places-lt")
def places_lt(
    source: Annotated[Path, typer.Argument(help="Folder of Places365, which the lists name images of.")],
    root: RootOption,
    lists: ListsOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Make chips of Places-LT by Places_LT_train.txt, _val and _test."""
    from rsft.data.prepare.list_files import prepare_list_files

    run_prepare(partial(prepare_list_files, "places-lt", source, root, lists=lists, overwrite=overwrite))


@app.command("inat2018")
def inat2018(
    source: Annotated[Path, typer.Argument(help="Folder that holds train_val2018/.")],
    root: RootOption,
    lists: ListsOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Make chips of iNaturalist 2018 by iNaturalist18_train.txt and _val."""
    from rsft.data.prepare.list_files import prepare_list_files

    run_prepare(partial(prepare_list_files, "inat2018", source, root, lists=lists, overwrite=overwrite))


@app.command("fusrs")
def fusrs(
    root: RootOption,
    fusar: Annotated[
        Path | None, typer.Option(help="Folder or archive of FUSAR-Ship; looked for beside ROOT and in raw/ there.")
    ] = None,
    srsdd: Annotated[
        Path | None, typer.Option(help="Folder or archive of SRSDD; looked for beside ROOT and in raw/ there.")
    ] = None,
    protocol: Annotated[
        Literal["clean", "published"],
        typer.Option(help="The archives' own categories in splits without a leak, or the authors' lists row for row."),
    ] = "clean",
    lists: Annotated[
        Path | None, typer.Option(help="Folder of the authors' lists; downloaded to fusrs_lists/ beside ROOT.")
    ] = None,
    classes: Annotated[int, typer.Option(help="4, or 5 with `other`.")] = 4,
    val: Annotated[
        float | None,
        typer.Option(help="Share of each class for validation; 0.1 with clean, 0 (or training rows) with published."),
    ] = None,
    jobs: JobsOption = 2,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> None:
    """Make FUSRS v2, the ships of Gaofen-3, out of FUSAR-Ship and SRSDD, and audit it."""
    from rsft.data.prepare.fusrs import prepare_fusrs

    store = run_prepare(
        partial(
            prepare_fusrs,
            root,
            fusar=fusar,
            srsdd=srsdd,
            protocol=protocol,
            lists=lists,
            classes=classes,
            val=val,
            jobs=jobs,
            seed=seed,
            overwrite=overwrite,
        )
    )
    show_paths({"audit": store.root / "audit.json"})
