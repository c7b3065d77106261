"""Files beside the chips of a store that show it to a reader: README.md and figures.

The same store gives the same bytes.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from unicodedata import east_asian_width

import cv2
import numpy as np

from rsft.data.chips.class_names import missing_classes
from rsft.data.chips.manifest import SPLITS
from rsft.data.chips.record import describe_groups, group_by_class
from rsft.data.chips.store import CLASS_FIGURE, CONTACT_SHEETS, README, ChipStore
from rsft.data.imagery.reader import read_chip
from rsft.types import GROUPS, Bytes, Pixels
from rsft.utils.licenses import describe_license, license_restrictions
from rsft.utils.process_pool import imap_unordered
from rsft.utils.templates import render_template
from rsft.version import __version__

SHEET_COLUMNS = 8
MAX_SHEET_CHIPS = 48
"""Chips per row of a contact sheet, and on the whole sheet."""
THUMB = 96
GAP = 4
"""Side of a thumbnail and space between thumbnails, in pixels."""

_COLORS = dict(zip(GROUPS, ("#2b6cb0", "#dd8a2b", "#b83280"), strict=True))
_MAX_NAMED_CLASSES = 40  # more bars leave no room for class names
_AXIS_START = 0.5  # chips, so that one chip has a bar
_AXIS_LENGTH = 500
_LETTER_WIDTH = 7  # pixels


def render_class_figure(
    title: str, counts: Mapping[str, Mapping[str, int]], group_of: Mapping[str, str]
) -> bytes:
    """Draw the number of chips per class on a logarithmic axis, as SVG.

    The largest class is first; colors show the groups.

    Args:
        title: name of the data set.
        counts: number of chips by split and class; the first split with chips is drawn.
        group_of: group (head, medium or tail) by class.
    """
    split = next(split for split in counts if any(counts[split].values()))
    names = sorted(counts[split], key=lambda name: -counts[split][name])
    largest = counts[split][names[0]]
    is_named = len(names) <= _MAX_NAMED_CLASSES
    step = 20.0 if is_named else 20 * _MAX_NAMED_CLASSES / len(names)
    left = 20
    if is_named:
        left += max(map(_text_width, names))

    def length(count: int) -> float:
        share = math.log(max(count, _AXIS_START) / _AXIS_START)
        return round(_AXIS_LENGTH * share / math.log(largest / _AXIS_START), 1)

    total = sum(counts[split].values())
    figure = render_template(
        __package__,
        "classes.svg.jinja",
        escape=True,
        title=f"{title}: {total:,} {split} chips, {len(names):,} classes",
        bars=[(x, counts[split][x], _COLORS[group_of[x]]) for x in names],
        colors={x: _COLORS[x] for x in GROUPS if x in group_of.values()},
        ticks=[10**power for power in range(len(str(largest)))],
        length=length,
        is_named=is_named,
        step=step,
        left=left,
        right=left + _AXIS_LENGTH,
        bottom=round(40 + step * len(names)),
    )
    return figure.encode()


def _text_width(text: str) -> int:
    """Return about how many pixels a text needs; letters of Asia are wide."""
    wide = sum(east_asian_width(letter) in "WF" for letter in text)
    return _LETTER_WIDTH * (len(text) + wide)


def render_contact_sheet(paths: Sequence[Path]) -> bytes:
    """Draw thumbnails of image files, and return the content of a PNG file."""
    columns = min(SHEET_COLUMNS, len(paths))
    step = THUMB + GAP
    height = GAP + step * -(-len(paths) // columns)
    sheet = np.full((height, GAP + step * columns, 3), 255, np.uint8)
    for index, path in enumerate(paths):
        top = GAP + step * (index // columns)
        left = GAP + step * (index % columns)
        thumbnail = render_thumbnail(read_chip(path))
        sheet[top : top + THUMB, left : left + THUMB] = thumbnail
    return cv2.imencode(".png", sheet)[1].tobytes()


def render_thumbnail(pixels: Pixels) -> Bytes:
    """Resize a chip for a contact sheet.

    It keeps its aspect ratio; the rest is gray.

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
    out[: size[1], : size[0]] = small
    return out


def write_sidecars(
    root: Path,
    labels: Collection[str] | None = None,
    jobs: int = 1,
    write: Callable[[Path, bytes], object] = Path.write_bytes,
) -> None:
    """Write README.md, the class figure and contact sheets, made from a store.

    Args:
        root: folder of the store.
        labels: classes that get a contact sheet; None for all.
        jobs: number of worker processes for the figures.
        write: writes a file.
    """
    store = ChipStore.open(root)
    table = store.read(["path", "class", "flags"])
    flags = Counter[str]()
    for text in table["flags"].dropna():
        flags.update(text.split(","))
    del flags[""]
    write(root / README, render_readme(store, flags).encode())
    group_of = group_by_class(store.groups)
    images = {
        CLASS_FIGURE: partial(render_class_figure, store.name, store.counts, group_of)
    }
    (root / "classes.png").unlink(missing_ok=True)  # the figure of earlier versions
    (root / CONTACT_SHEETS).mkdir(exist_ok=True)
    for name, paths in table.groupby("class")["path"]:
        if labels is None or name in labels:
            sheet = f"{CONTACT_SHEETS}/{name}.png"
            # evenly spaced ones, if there are more than fit
            shown = paths.iloc[:: -(-len(paths) // MAX_SHEET_CHIPS)]
            images[sheet] = partial(render_contact_sheet, [root / x for x in shown])
    for name, data in imap_unordered(_render, images.items(), jobs):
        write(root / name, data)


def _render(image: tuple[str, Callable[[], bytes]]) -> tuple[str, bytes]:
    name, render = image
    return name, render()


def render_readme(store: ChipStore, flags: Mapping[str, int]) -> str:
    """Return the text of README.md of a store; `flags` counts the chips by flag."""
    missing = missing_classes(store.counts)
    return render_template(
        __package__,
        "readme.md.jinja",
        store=store,
        flags=flags,
        splits=[split for split in SPLITS if any(store.counts[split].values())],
        group_of=group_by_class(store.groups),
        groups=describe_groups(store.groups, store.counts["train"]),
        license=describe_license(store.license, license_restrictions(store.license)),
        missing={split: ", ".join(names) for split, names in missing.items()},
        version=__version__,
    )
