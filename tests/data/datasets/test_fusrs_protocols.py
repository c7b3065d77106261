"""Odd copies of SRSDD and FUSAR-Ship: every chip has the pixels and class of its label,
or the copy is refused.

The truth is cut here, from the arrays that are written, and not read back from the
layout.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from rsft.data.prepare.fusrs import prepare_fusrs
from rsft.errors import DataError
from tests.data.datasets.fusar_ship.data import CATEGORIES, make_names, write_fusar
from tests.data.datasets.srsdd.data import write_srsdd
from tests.helpers.messages import mentions

pytestmark = pytest.mark.slow

CLASSES = {
    "Container": "cargo",
    "Fishing": "fishing",
    "ore-oil": "tanker",
    "Dredger": "dredger",
}
NAMES = make_names({"Cargo": 12, "Fishing": 8, "Tanker": 6, "Dredger": 5, "Other": 9})
NUMBERS = range(1, 7)
SIZE = 96


def digest(pixels):
    return hashlib.sha256(
        f"{pixels.shape}".encode() + np.ascontiguousarray(pixels, np.uint16).tobytes()
    ).hexdigest()


def scene(number, shape=(SIZE, SIZE)):
    return np.random.default_rng(number).integers(1, 256, shape, np.uint8)


def boxes(number):
    """Return three boxes as left, top, right, bottom with their classes, other ones for
    each image."""
    names = list(CLASSES)
    left = 8 + number % 9
    return [
        ((left, 5 + 30 * k, left + 40, 15 + 30 * k), names[(number + k) % 4])
        for k in range(3)
    ]


def rows(number, order="xyxyxyxy"):
    lines = []
    for (x1, y1, x2, y2), name in boxes(number):
        corners = (x1, y1, x2, y1, x2, y2, x1, y2)
        corners = (
            corners if order[0] == "x" else np.reshape(corners, (4, 2))[:, ::-1].ravel()
        )
        lines.append(" ".join([*map(str, corners), name, "0"]))
    return "\n".join(lines) + "\n"


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    (
        path.write_text(content)
        if isinstance(content, str)
        else Image.fromarray(content).save(path)
    )


def ships(numbers=NUMBERS):
    """Return hash and class of the chips of images: 64 pixels around the middle of each
    box, mirrored at the border."""
    chips = Counter()
    for number in numbers:
        padded = np.pad(scene(number), 64, mode="reflect")
        for (x1, y1, x2, y2), name in boxes(number):
            left = round((x1 + x2) / 2 - 32) + 64
            top = round((y1 + y2) / 2 - 32) + 64
            chips[digest(padded[top : top + 64, left : left + 64]), CLASSES[name]] += 1
    return chips


def srsdd_split_below_images_and_labels(root):
    """Each split counts from 1, and so do quick-looks; the lists of the splits are
    wrong; val has no labels."""
    for index, split in enumerate(("train", "test", "val")):
        for number in NUMBERS:
            write(
                root / f"SRSDD-v1.0/images/{split}/{number:04}.png",
                scene(number + 100 * index),
            )
            write(
                root / f"quicklook/{split}/{number:04}.jpg",
                scene(number + 100 * index)[::4, ::4],
            )
            if split != "val":
                write(
                    root / f"SRSDD-v1.0/labels/{split}/{number:04}.txt",
                    rows(number + 100 * index),
                )
    write(
        root / "SRSDD-v1.0/ImageSets/train.txt",
        "".join(f"{number + 3:04}\n" for number in NUMBERS),
    )
    return ships([*NUMBERS, *(number + 100 for number in NUMBERS)])


def srsdd_with_old_labels(root):
    """A backup of the labels has other classes and boxes."""
    for number in NUMBERS:
        split = "train" if number % 2 else "test"
        write(root / f"{split}/Images/{number}.png", scene(number))
        write(
            root / f"{split}/Annotations/{number}.txt",
            "acquisition dates:2019\nimagesource:GF3\n" + rows(number),
        )
        write(root / f"backup/{split}/labels/{number}.txt", rows(number + 1))
    return ships()


def srsdd_mirrored_beside(root):
    for number in NUMBERS:
        write(root / f"images/{number}.png", scene(number))
        write(root / f"images_flip/{number}.png", scene(number)[:, ::-1])
        write(root / f"labels/{number}.txt", rows(number))
    return mentions("images/1.png", "images_flip/1.png", "differ")


def srsdd_16_bits_with_previews(root):
    for number in NUMBERS:
        write(root / f"tiff/{number}.tiff", scene(number).astype(np.uint16) * 100)
        write(root / f"png/{number}.png", scene(number))
        write(root / f"labelTxt/{number}.txt", rows(number))
    return mentions("tiff/1.tiff", "png/1.png", "differ")


def srsdd_rows_before_columns(root):
    """The corners are y x, and the images are higher than wide."""
    for number in NUMBERS:
        write(root / f"images/{number}.png", scene(number, (SIZE, 64)))
        write(root / f"labels/{number}.txt", rows(number, order="yxyxyxyx"))
    return mentions("6 images", "not where the image is bright")


def fusar_chips(root, of=None):
    """Return hash and class of the chips of the four classes."""
    chips = Counter()
    for path in sorted(root.rglob("Ship_*")):
        name = CATEGORIES[int(path.name[6:8]) - 1].lower()
        if name in CLASSES.values() and (of is None or path.suffix == of):
            chips[digest(np.asarray(Image.open(path))), name] += 1
    return chips


def fusar_in_odd_folders(root):
    """The names of the folders are translated or in capitals, and so are the suffixes;
    two splits are joined."""
    write_fusar(root / "train", NAMES[:25])
    write_fusar(root / "test", NAMES[25:])
    chips = fusar_chips(root)
    for path in sorted(root.rglob("*.tiff")):
        path.rename(path.with_suffix(".TIFF"))
    (root / "train/Cargo").rename(root / "train/01_货船")
    (root / "train/Fishing").rename(root / "train/FISHING VESSELS (8)")
    return chips


def fusar_with_previews(root):
    """16-bit chips, and 8-bit previews of the same names."""
    write_fusar(root / "FUSAR-Ship1.0", NAMES)
    shutil.copytree(root / "FUSAR-Ship1.0", root / "preview")
    for path in sorted((root / "preview").rglob("*.tiff")):
        Image.open(path).save(path.with_suffix(".png"))
        path.unlink()
    for path in sorted((root / "FUSAR-Ship1.0").rglob("*.tiff")):
        write(path, np.asarray(Image.open(path)).astype(np.uint16) * 7)
    return fusar_chips(root, ".tiff")


def fusar_with_mirrored_copies(root):
    """Mirrored chips have the names of the originals, whose content they repeat."""
    write_fusar(root / "FUSAR", NAMES, meta=False)
    truth = fusar_chips(root)
    for path in sorted((root / "FUSAR").rglob("*.tiff")):
        write(
            root / "augmented" / path.relative_to(root / "FUSAR"),
            np.asarray(Image.open(path))[:, ::-1],
        )
    return truth


def fusar_with_two_exchanged_folders(root):
    """14 of 40 names contradict their folder: less than half in all."""
    write_fusar(root, NAMES)
    for source, target in (("Fishing", "x"), ("Tanker", "Fishing"), ("x", "Tanker")):
        (root / source).rename(root / target)
    return mentions("6 of 6 file names of Tanker")


def fusar_counted_from_zero(root):
    for number in range(4):  # Cargo, Dredger, Fishing, Tanker
        for index in range(4):
            write(
                root / f"class_{number}/Ship_C{number:02}S01N{index:04}.tiff",
                scene(1000 * number + index, (16, 16)),
            )
    return mentions("C01 to C03", "renumbered")


@pytest.mark.slow
@pytest.mark.parametrize(
    "copy",
    [
        srsdd_split_below_images_and_labels,
        srsdd_with_old_labels,
        srsdd_mirrored_beside,
        srsdd_16_bits_with_previews,
        srsdd_rows_before_columns,
        fusar_in_odd_folders,
        fusar_with_previews,
        fusar_with_mirrored_copies,
        fusar_with_two_exchanged_folders,
        fusar_counted_from_zero,
    ],
)
def test_every_chip_is_right_or_the_copy_is_refused(tmp_path, copy):
    is_srsdd = copy.__name__.startswith("srsdd")
    fusar = tmp_path / "FUSAR"
    srsdd = tmp_path / "SRSDD"
    truth = copy(srsdd if is_srsdd else fusar)
    if is_srsdd:
        write_fusar(fusar, NAMES)
    else:
        write_srsdd(srsdd, {number: ["Container"] for number in NUMBERS})
    build = {"fusar": fusar, "srsdd": srsdd, "jobs": 1}
    if isinstance(truth, str):
        with pytest.raises(DataError, match=truth):
            prepare_fusrs(tmp_path / "out", **build)
        assert not (tmp_path / "out").exists()
        return
    store = prepare_fusrs(tmp_path / "out", **build)
    table = store.table[
        store.table["source"] == ("SRSDD" if is_srsdd else "FUSAR-Ship")
    ]
    chips = [
        digest(np.asarray(Image.open(store.root / path))) for path in table["path"]
    ]
    assert Counter(zip(chips, table["class"], strict=True)) == truth
