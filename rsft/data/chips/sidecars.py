"""Files beside the chips of a store: tables, counts and figures.

The same store gives the same bytes.
"""

import csv
import io
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from heapq import merge
from itertools import chain, islice
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rsft.data.chips import store as layout
from rsft.data.chips.build_journal import BuildJournal
from rsft.data.chips.record import (
    StoreDescription,
    describe_groups,
    describe_rejections,
    group_by_count,
)
from rsft.data.chips.store import SPLITS, Counts, missing_classes
from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError
from rsft.types import GROUPS, Bytes, Pixels, Rejection
from rsft.utils.licenses import describe_license, license_restrictions
from rsft.utils.process_pool import imap_unordered
from rsft.utils.tables import escape_cell
from rsft.utils.untrusted.documents import code_span, escape_markdown
from rsft.version import __version__

SHEET_COLUMNS = 8
SHEET_ROWS = 6
"""Chips per row and per column of a contact sheet."""
THUMB = 96
GAP = 4
"""Side of a thumbnail and space between thumbnails, in pixels."""

_COLORS = dict(zip(GROUPS, ("#2b6cb0", "#dd8a2b", "#b83280"), strict=True))
_LABEL_SIZE = 8
_LETTER = 8  # of class names: size in points, width of a letter in pixels
_MAX_NAMED_CLASSES = 40  # more bars leave no room for class names


def render_class_figure(
    title: str, counts: Mapping[str, Mapping[str, int]], group_of: Mapping[str, str]
) -> bytes:
    """Draw the number of chips per class on a logarithmic axis.

    The largest class is first; colors show the groups.

    Args:
        title: name of the data set.
        counts: number of chips by split and class; the first split with chips is drawn.
        group_of: group (head, medium or tail) by class.
    """
    from matplotlib.figure import Figure

    split = next(split for split in counts if any(counts[split].values()))
    names = sorted(counts[split], key=lambda name: -counts[split][name])
    values = [counts[split][name] for name in names]
    colors = [_COLORS[group_of[name]] for name in names]
    named = len(names) <= _MAX_NAMED_CLASSES
    figure = Figure((7, 1.4 + 0.25 * len(names)) if named else (8, 4), dpi=120)
    axes = figure.add_subplot()
    if named:
        bars = axes.barh(range(len(names)), values, color=colors)
        axes.bar_label(
            bars, [f"{value:,}" for value in values], padding=3, fontsize=_LABEL_SIZE
        )
        axes.set_yticks(
            range(len(names)), names, fontsize=_LABEL_SIZE, parse_math=False
        )
        axes.set(
            ylim=(len(names) - 0.4, -0.6), xscale="log", xlim=(0.8, 3 * max(values))
        )
        axes.set_xlabel("chips", loc="left")
        axes.minorticks_off()
    else:
        axes.bar(range(len(names)), values, width=1, color=colors)
        axes.set(yscale="log", ylabel="chips", xlim=(-0.5, len(names) - 0.5))
        axes.set_xlabel("class, by number of chips", loc="left")
    axes.set_title(
        f"{title}: {sum(values):,} {split} chips, {len(names):,} classes", fontsize=10
    )
    for group in (group for group in GROUPS if group in set(group_of.values())):
        axes.bar(0, 0, color=_COLORS[group], label=group)
    # "best" may hide bars
    figure.legend(
        frameon=False, loc="lower right", ncols=len(GROUPS), fontsize=_LABEL_SIZE
    )
    width, height = figure.bbox.width, figure.bbox.height
    labels = 20 + _LETTER * (max(map(len, names)) if named else len("1,000,000,000"))
    # the layout engines of matplotlib draw the figure twice
    left, right = (
        min(0.6, labels / width),
        1 - 16 / width,
    )
    figure.subplots_adjust(
        left=left, right=right, bottom=62 / height, top=1 - 38 / height
    )
    with io.BytesIO() as file, warnings.catch_warnings():
        # class names in scripts that the font lacks
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure.savefig(file, format="png", metadata={"Software": None})
        return file.getvalue()


def select_sheet_chips(count: int) -> list[int]:
    """Return the ascending indices of the chips of a contact sheet.

    These are all, or evenly spaced ones that fit on it.

    Returns:
        Ascending indices: all chips, or evenly spaced ones if there are more than fit
            on one sheet.
    """
    page = min(count, SHEET_COLUMNS * SHEET_ROWS)
    return [number * count // page for number in range(page)]


def render_contact_sheet(paths: Sequence[Path]) -> bytes:
    """Draw thumbnails of image files, and return the content of a PNG file.

    At most SHEET_COLUMNS x SHEET_ROWS files.
    """
    columns = min(SHEET_COLUMNS, len(paths))
    step = THUMB + GAP
    sheet = np.full(
        (GAP + step * -(-len(paths) // columns), GAP + step * columns, 3), 255, np.uint8
    )
    for index, path in enumerate(paths):
        top, left = (GAP + step * number for number in divmod(index, columns))
        sheet[top : top + THUMB, left : left + THUMB] = render_thumbnail(
            read_chip(path)
        )
    return cv2.imencode(".png", sheet)[1].tobytes()


def render_thumbnail(pixels: Pixels) -> Bytes:
    """Resize a chip for a contact sheet.

    It keeps its aspect ratio and is centered on gray.

    Bytes are shown unchanged; other values are stretched from their 0.5th to their
    99.5th percentile. Three bands are shown as R, G, B; of any other number of bands,
    the first band is shown.

    Returns:
        Bytes (THUMB, THUMB, 3) in B, G, R order.
    """
    if pixels.shape[2] == 3:
        shown = pixels[:, :, ::-1]
    else:
        shown = np.repeat(pixels[:, :, :1], 3, axis=2)
    if shown.dtype != np.uint8:
        finite = shown[np.isfinite(shown)]
        low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 1.0)
        scaled = (shown.astype(np.float32) - low) * (255 / max(high - low, 1e-12))
        # no-data is black
        shown = np.clip(np.rint(np.nan_to_num(scaled)), 0, 255).astype(np.uint8)
    height, width = shown.shape[:2]
    scale = THUMB / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = cv2.resize(np.ascontiguousarray(shown), size, interpolation=method)
    out = np.full((THUMB, THUMB, 3), 128, np.uint8)
    top = (THUMB - size[1]) // 2
    left = (THUMB - size[0]) // 2
    out[top : top + size[1], left : left + size[0]] = small
    return out


def write_sidecars(
    store: Path,
    journal: BuildJournal,
    bands: str,
    description: StoreDescription,
    jobs: int,
) -> None:
    """Write the manifest, dataset.json, rejected.csv, the figures and README.md.

    Args:
        store: folder of the store.
        journal: journal of the build.
        bands: bands of the chips that belong to the store, joined by commas.
        description: name, classes, groups and command of the store.
        jobs: number of worker processes for the figures.

    Raises:
        DataError: the store has no chip, or none of a required source.
    """
    counts = {split: dict.fromkeys(description.classes, 0) for split in SPLITS}
    chips: Counter[str] = Counter()
    for (split, name), count in journal.counts(bands).items():
        counts[split][name] = count
        chips[name] += count
    if not bands:
        reasons = describe_rejections(
            chain(description.rejected, journal.rejections(bands))
        )
        raise DataError(
            "no chip can be used", description.name, reasons or "the input is empty"
        )
    _check_sources(journal, bands, description)
    groups = description.groups or group_by_count(counts["train"])
    group_of = {name: group for group, names in groups.items() for name in names}
    flags = Counter[str]()
    rows = journal.rows(bands)
    schema = pa.schema([*layout.SCHEMA, *description.columns.items()])
    with pq.ParquetWriter(store / layout.MANIFEST, schema) as writer:
        while batch := [
            row | {"group": group_of[row["class"]]}
            for row in islice(rows, layout.ROW_GROUP)
        ]:
            writer.write_table(pa.Table.from_pylist(batch, schema))
            flags.update(
                flag for row in batch for flag in row["flags"].split(",") if flag
            )
    rejected = _write_rejected(
        store / layout.REJECTED,
        merge(sorted(description.rejected), journal.rejections(bands)),
    )
    metadata = {
        "name": description.name,
        "classes": list(description.classes),
        "groups": groups,
    }
    metadata |= {
        "bands": bands.split(","),
        "skipped": description.skipped,
        "command": description.command,
    }
    metadata |= {"license": description.license, "rsft_version": __version__}
    metadata |= {"notes": list(description.notes)} if description.notes else {}
    (store / layout.DATASET).write_text(json.dumps(metadata, indent=2) + "\n", "utf-8")
    (store / layout.README).write_text(
        render_readme(description, counts, group_of, flags, rejected), "utf-8"
    )
    (store / layout.CONTACT_SHEETS).mkdir(exist_ok=True)
    images = {
        layout.CLASS_FIGURE: partial(
            render_class_figure, description.name, counts, group_of
        )
    }
    for name, count in chips.items():
        paths = [
            store / path
            for path in journal.paths(name, bands, select_sheet_chips(count))
        ]
        images[f"{layout.CONTACT_SHEETS}/{name}.png"] = partial(
            render_contact_sheet, paths
        )
    for name, data in imap_unordered(_render, images.items(), jobs):
        (store / name).write_bytes(data)


def _check_sources(
    journal: BuildJournal, bands: str, description: StoreDescription
) -> None:
    """Raise an error if a required source has no chip."""
    missing = dict(description.required_sources)
    for row in journal.rows(bands) if missing else ():
        missing.pop(row.get("source", ""), None)
        if not missing:
            return
    for source, hint in missing.items():
        reasons = describe_rejections(
            chain(description.rejected, journal.rejections(bands))
        )
        hint = f"{reasons or 'no input of it is left'}. {hint}"
        raise DataError(f"{source} gives no chip", description.name, hint)


def _write_rejected(path: Path, rejections: Iterable[Rejection]) -> int:
    """Write the rejected inputs and return their number."""
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("file", "line", "reason"))
        for rejection in rejections:
            table.writerow([escape_cell(value) for value in rejection])
            count += 1
    return count


def _render(image: tuple[str, Callable[[], bytes]]) -> tuple[str, bytes]:
    name, render = image
    return name, render()


def render_readme(
    description: StoreDescription,
    counts: Counts,
    group_of: Mapping[str, str],
    flags: Mapping[str, int],
    rejected: int,
    additions: Sequence[str] = (),
) -> str:
    """Return the text of README.md.

    Args:
        description: name, classes, command and license of the store.
        counts: number of chips by split and class.
        group_of: group of each class.
        flags: number of chips by flag.
        rejected: number of inputs that cannot be used.
        additions: one sentence per addition to the finished store.
    """
    splits = [split for split in SPLITS if any(counts[split].values())]
    license_text = describe_license(
        description.license, license_restrictions(description.license)
    )
    groups = {
        group: [name for name in group_of if group_of[name] == group]
        for group in GROUPS
    }
    rows = [("class", "group", *splits), ("---", "---", *["---:"] * len(splits))]
    for name in description.classes:
        cells = (str(counts[split][name]) for split in splits)
        rows.append((escape_markdown(name), escape_markdown(group_of[name]), *cells))
    rows.append(("all", "", *(str(sum(counts[split].values())) for split in splits)))
    tallies: dict[str, Mapping[str, object]] = {
        "Left out on purpose:": description.skipped,
        "Kept, with a flag in the manifest:": flags,
        "Classes that a split lacks:": {
            split: ", ".join(names) for split, names in missing_classes(counts).items()
        },
    }
    items = {
        title: [f"{name}: {value}" for name, value in sorted(tally.items())]
        for title, tally in tallies.items()
    }
    paragraphs = [
        f"# {escape_markdown(description.name)}",
        f"Chips for rsft {__version__}, made by {code_span(description.command)}.",
        f"License of the data: {escape_markdown(license_text)}.",
        "\n".join(f"| {' | '.join(row)} |" for row in rows),
        f"Groups: {describe_groups(groups, counts['train'])}.",
        f"![classes]({layout.CLASS_FIGURE})",
        f"`{layout.CONTACT_SHEETS}/` shows chips of each class.",
        (
            f"Each chip has one row in `{layout.MANIFEST}`. "
            f"`{layout.REJECTED}` lists {rejected} inputs that cannot be used."
        ),
    ]
    for title, texts in {
        "Added later:": additions,
        **items,
        "Notes:": description.notes,
    }.items():
        if texts:
            paragraphs += [
                title,
                "\n".join(f"- {escape_markdown(text)}" for text in texts),
            ]
    return "\n\n".join(paragraphs) + "\n"
