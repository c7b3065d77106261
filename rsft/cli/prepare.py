"""`rsft prepare`: build chip stores of data sets, one command per data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, ParamSpec

import typer
from rich.text import Text

from rsft.cli.display.console import console, escape_controls, progress, show_flags, show_paths, show_store
from rsft.cli.options import JobsOption, NotATargetOption, OverwriteOption, RootOption, SeedOption, band_names

if TYPE_CHECKING:
    from rsft.data.chips.store import ChipStore

app = typer.Typer(help="Build a chip store: a folder of chips with one manifest.", no_args_is_help=True)

ValOption = Annotated[
    float, typer.Option("--val", help="Share of each class for validation, if SOURCE has no validation split.")
]
ListsOption = Annotated[
    Path | None, typer.Option("--lists", help="Folder of the list files (default: SOURCE).", show_default=False)
]

P = ParamSpec("P")

_CONSEQUENCES = {
    "train": "these classes cannot be learned",
    "val": "validation and calibration do not see these classes",
    "test": "the accuracy of these classes is not measured",
}


def run_prepare(prepare: Callable[P, ChipStore], *args: P.args, **kwargs: P.kwargs) -> ChipStore:
    """Build a chip store with a progress bar; show its counts and the classes that a split lacks.

    Args:
        prepare: a function of `rsft.data.prepare` with the keyword argument `progress`.
        *args: its positional arguments.
        **kwargs: its other keyword arguments.

    Returns:
        The chip store.
    """
    from rsft.data.chips.summary import count_chips, list_first_names, missing_classes

    with progress() as report:
        kwargs["progress"] = report
        store = prepare(*args, **kwargs)
    show_store(store)
    for split, names in missing_classes(count_chips(store)).items():
        _warn(f"no chip in {split}: {list_first_names(names)}; {_CONSEQUENCES[split]}")
    if store.table["class"].nunique() == 1:
        _warn(f"all chips have the class {store.table['class'][0]}; `rsft finetune` needs at least two classes")
    return store


def _warn(text: str) -> None:
    console.print(Text.assemble(("warning: ", "yellow"), escape_controls(text)), soft_wrap=True)


def warn_about_typos(store: ChipStore) -> None:
    """Print rare classes whose name may be a typing error of a common one, with their counts."""
    from rsft.data.chips.summary import find_label_typos

    counts = {str(name): int(count) for name, count in store.table["class"].value_counts().items()}
    total = f"{sum(counts.values()):,} chips"
    for rare, common in find_label_typos(counts):
        _warn(f"{rare} ({counts[rare]:,} of {total}) may be a typo of {common} ({counts[common]:,})")


@app.command("demo")
def demo(
    root: RootOption,
    scene: Annotated[
        Path | None,
        typer.Option(
            help="Folder for a simulated scene with such ships: scene.tif, ships.gpkg (the truth) and land.gpkg "
            "(default: no scene)."
        ),
    ] = None,
    jobs: JobsOption = 2,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> None:
    """Simulate a long-tailed data set of SAR ship chips with four classes (FUSAR-Ship and SRSDD formats)."""
    from rsft.data.prepare.demo import check_scene_folder_is_free, prepare_demo, prepare_demo_scene

    if scene is not None:
        check_scene_folder_is_free(scene, overwrite, seed)
    run_prepare(prepare_demo, root, jobs=jobs, seed=seed, overwrite=overwrite)
    if scene is not None:
        prepare_demo_scene(scene, seed, overwrite)
        show_paths({"scene": scene / "scene.tif", "truth": scene / "ships.gpkg", "land": scene / "land.gpkg"})


@app.command("folder")
def folder(
    source: Annotated[
        Path,
        typer.Argument(help="Class folders (also in train/ val/ test/), path-label lists, or a CSV of path,class."),
    ],
    root: RootOption,
    imbalance: Annotated[
        float | None, typer.Option(min=1, help="Make the training split long-tailed: largest class / smallest class.")
    ] = None,
    val: ValOption = 0.2,
    names: Annotated[
        Path | None, typer.Option(help="Text file of class names: one `folder name` pair per line.")
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(
            help="Unit of the pixels: amplitude, intensity, sigma0, db, gamma0, gamma0_db or beta0. Floats need it, "
            "unless the tags of their TIFF files name it."
        ),
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(
            help="Bands to store, such as VV. TIFF files may name more bands; for other files, give the names of all "
            "bands in order (default: the names in the file, or gray, or R,G,B)."
        ),
    ] = None,
    spacing: Annotated[
        float | None,
        typer.Option(help="Pixel spacing in meters. The model then refuses scenes of another spacing.", min=0.001),
    ] = None,
    license_text: Annotated[
        str,
        typer.Option("--license", help="License of the images: an SPDX identifier, or a text with restrictions."),
    ] = "unknown",
    not_a_target: NotATargetOption = None,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> None:
    """Build a chip store of labeled image files; the files are copied unchanged."""
    from rsft.data.prepare.image_folder import prepare_folder

    store = run_prepare(
        prepare_folder,
        source,
        root,
        imbalance=imbalance,
        val=val,
        names=names,
        unit=unit,
        bands=band_names(bands),
        spacing=spacing,
        license_text=license_text,
        not_a_target=not_a_target,
        seed=seed,
        overwrite=overwrite,
    )
    warn_about_typos(store)


@app.command("dota")
def dota(
    source: Annotated[
        Path, typer.Argument(help="Folder or archive of DOTA: train/ and val/, or images/ and labelTxt/.")
    ],
    root: RootOption,
    version: Annotated[Literal["1.0", "1.5", "2.0"], typer.Option(help="Version of the labels.")] = "1.0",
    classes: Annotated[int, typer.Option(help="Number of classes: 15, as in v1.0, or 18.")] = 15,
    margin: Annotated[int, typer.Option(help="Pixels added on each side of an object's box.")] = 0,
    min_side: Annotated[int, typer.Option(help="Minimum side in pixels; smaller objects are rejected.")] = 4,
    val: ValOption = 0.2,
    jobs: JobsOption = 2,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> None:
    """Build a chip store of the objects of DOTA: one chip per object, cut along its horizontal bounding box."""
    from rsft.data.prepare.dota import prepare_dota

    run_prepare(
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


@app.command("opensarship")
def opensarship(
    source: Annotated[Path, typer.Argument(help="Folder or archive of OpenSARShip that contains the scenes.")],
    root: RootOption,
    product: Annotated[
        Literal["uint8", "cal", "patch"],
        typer.Option(help="uint8 (stretched for display), cal (linear sigma0) or patch (amplitude)."),
    ] = "uint8",
    classes: Annotated[
        Literal["3", "typed"],
        typer.Option(help="3 (Cargo, Tanker, Other), or typed (the ship types in the file names)."),
    ] = "3",
    bands: Annotated[
        str | None,
        typer.Option(help="Bands to store, such as VV, which all scenes have (default: the most common bands)."),
    ] = None,
    val: Annotated[float, typer.Option(help="Share of each class for validation, by whole scenes.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of each class for the test split, by whole scenes.")] = 0.2,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> None:
    """Build a chip store of OpenSARShip, Sentinel-1 ships in VH and VV; no scene is in two splits."""
    from rsft.data.prepare.opensarship import prepare_opensarship

    run_prepare(
        prepare_opensarship,
        source,
        root,
        product=product,
        classes=classes,
        bands=band_names(bands),
        val=val,
        test=test,
        seed=seed,
        overwrite=overwrite,
    )


@app.command("cifar100-lt")
def cifar100_lt(
    source: Annotated[
        Path, typer.Argument(help="Folder or archive of CIFAR-100: the published Python files, or PNG class folders.")
    ],
    root: RootOption,
    ratio: Annotated[float, typer.Option(min=1, help="Largest class / smallest class of the training split.")] = 100,
    val: Annotated[float, typer.Option(help="Share of each class of the test images for validation.")] = 0.1,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> None:
    """Build a chip store of long-tailed CIFAR-100; a ratio of 100 gives 10,847 training images."""
    from rsft.data.prepare.cifar100 import prepare_cifar100

    run_prepare(prepare_cifar100, source, root, ratio=ratio, val=val, seed=seed, overwrite=overwrite)


@app.command("places-lt")
def places_lt(
    source: Annotated[Path, typer.Argument(help="Folder of Places365 that the paths in the lists are relative to.")],
    root: RootOption,
    lists: ListsOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Build a chip store of Places-LT from the lists Places_LT_train.txt, Places_LT_val.txt and Places_LT_test.txt."""
    _prepare_list_files("places-lt", source, root, lists, overwrite)


@app.command("inat2018")
def inat2018(
    source: Annotated[Path, typer.Argument(help="Folder that contains train_val2018/.")],
    root: RootOption,
    lists: ListsOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Build a chip store of iNaturalist 2018 from the lists iNaturalist18_train.txt and iNaturalist18_val.txt."""
    _prepare_list_files("inat2018", source, root, lists, overwrite)


def _prepare_list_files(name: str, source: Path, root: Path, lists: Path | None, overwrite: bool) -> None:
    from rsft.data.prepare.image_folder import prepare_list_files

    run_prepare(prepare_list_files, name, source, root, lists=lists, overwrite=overwrite)


@app.command("fusrs")
def fusrs(
    root: RootOption,
    fusar: Annotated[
        Path | None, typer.Option(help="Folder or archive of FUSAR-Ship (default: search beside ROOT and in raw/).")
    ] = None,
    srsdd: Annotated[
        Path | None, typer.Option(help="Folder or archive of SRSDD (default: search beside ROOT and in raw/).")
    ] = None,
    protocol: Annotated[
        Literal["clean", "published"],
        typer.Option(help="clean: categories of the archives, no leak between splits; published: the authors' lists."),
    ] = "clean",
    lists: Annotated[
        Path | None, typer.Option(help="Folder of the authors' lists (default: download to fusrs_lists/ beside ROOT).")
    ] = None,
    classes: Annotated[int, typer.Option(help="Number of classes: 4, or 5 with `other`.")] = 4,
    val: Annotated[
        float | None,
        typer.Option(help="Share of each class for validation (default: 0.1 for clean, 0 for published)."),
    ] = None,
    allow_partial: Annotated[
        bool,
        typer.Option(
            "--allow-partial",
            help="Build even if an archive is missing or gives no chip, or most file names contradict their folder.",
        ),
    ] = False,
    jobs: JobsOption = 2,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> None:
    """Build and audit a chip store of FUSRS v2, the Gaofen-3 ships of FUSAR-Ship and SRSDD."""
    from rsft.data.prepare.fusrs import prepare_fusrs

    store = run_prepare(
        prepare_fusrs,
        root,
        fusar=fusar,
        srsdd=srsdd,
        protocol=protocol,
        lists=lists,
        classes=classes,
        val=val,
        allow_partial=allow_partial,
        jobs=jobs,
        seed=seed,
        overwrite=overwrite,
    )
    show_flags(store)
    show_paths({"audit": store.root / "audit.json"})
