"""Trees of SRSDD and FUSAR-Ship as people make them: all chips are right and no ship is
in two splits; or refused.

The images have bright ships on a darker sea. The truth is cut here, from the arrays
that are written.
"""

import hashlib
from collections import defaultdict

import cv2
import numpy as np
import pytest
from PIL import Image

from rsft.data.prepare.fusrs import prepare_fusrs
from rsft.errors import DataError
from tests.helpers.messages import mentions

pytestmark = pytest.mark.slow

SIZE = 160
TRAIN = range(1, 17)
TEST = range(17, 25)
CLASSES = {
    "Container": "cargo",
    "Fishing": "fishing",
    "ore-oil": "tanker",
    "Dredger": "dredger",
}
FUSAR = {"Cargo": 1, "Fishing": 4, "Tanker": 12, "Dredger": 3}


def boxes(number):
    """Return the boxes of two ships as left, top, right, bottom: one in each half of
    the image."""
    rng = np.random.default_rng(number)
    lefts = rng.integers(0, SIZE - 48, 2)
    tops = rng.integers([0, SIZE // 2], [SIZE // 2 - 12, SIZE - 12])
    return np.stack([lefts, tops, lefts + 48, tops + 12], axis=1)


def class_names(number):
    return [list(CLASSES)[(number + index) % 4] for index in range(2)]


def image(number, ships=None):
    """Return sea with the two ships of `boxes`."""
    rng = np.random.default_rng(1000 + number)
    pixels = rng.gamma(4, 8, (SIZE, SIZE))
    for left, top, right, bottom in boxes(number if ships is None else ships):
        pixels[top + 2 : bottom - 2, left + 2 : right - 2] += rng.gamma(
            4, 40, (bottom - top - 4, right - left - 4)
        )
    return np.clip(pixels, 0, 255).astype(np.uint8)


def chip(number):
    """Return a chip of FUSAR-Ship."""
    return image(10_000 + number)[:80, :80]


def digest(pixels):
    return hashlib.sha256(
        f"{pixels.shape}".encode() + np.ascontiguousarray(pixels).tobytes()
    ).hexdigest()


class Tree:
    """Both archives; `truth` has class and ship by the hash of a chip."""

    def __init__(self, root):
        self.root = root
        self.truth = {}
        for category, index in FUSAR.items():
            for number in range(6):
                self.add_chip(
                    category, number, chip(100 * index + number), f"{category} {number}"
                )

    def add_chip(self, category, number, pixels, ship):
        path = (
            self.root
            / f"FUSAR/{category}/Sub/Ship_C{FUSAR[category]:02}S01N{number:04}.tiff"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        self.truth[digest(pixels)] = category.lower(), ship

    def add_image(self, split, name, pixels, corners, number, suffix=".png"):
        """Write an image with the boxes and ships of `number`; `corners` is (2, 4,
        2)."""
        images = self.root / f"SRSDD/{split}/images"
        labels = self.root / f"SRSDD/{split}/labels"
        for folder in (images, labels):
            folder.mkdir(parents=True, exist_ok=True)
        data = cv2.imencode(
            suffix, pixels, [cv2.IMWRITE_JPEG_QUALITY, 85] if suffix == ".jpg" else []
        )[1]
        (images / f"{name}{suffix}").write_bytes(data.tobytes())
        self.write_labels(split, name, corners, number)
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        for index, (box, category) in enumerate(
            zip(corners, class_names(number), strict=True)
        ):
            side = 64 * int(np.ceil(np.ptp(box, axis=0).max() / 64))
            padded = np.pad(pixels, side, mode="reflect")
            left, top = (
                np.rint((box.min(axis=0) + box.max(axis=0)) / 2 - side / 2).astype(int)
                + side
            )
            self.truth[digest(padded[top : top + side, left : left + side])] = (
                CLASSES[category],
                f"{number} {index}",
            )

    def write_labels(self, split, name, corners, number):
        rows = zip(corners.reshape(2, 8), class_names(number), strict=True)
        text = "".join(
            " ".join(f"{value:.1f}" for value in row) + f" {category} 0\n"
            for row, category in rows
        )
        (self.root / f"SRSDD/{split}/labels/{name}.txt").write_text(text)

    def add_images(self, numbers=(*TRAIN, *TEST)):
        for number in numbers:
            self.add_image(
                split_of(number), number, image(number), corners_of(number), number
            )
        return self


def split_of(number):
    return "train" if number in TRAIN else "test"


def corners_of(number):
    left, top, right, bottom = boxes(number).T
    return (
        np.stack([left, top, right, top, right, bottom, left, bottom], axis=1)
        .reshape(2, 4, 2)
        .astype(float)
    )


def turn(corners):
    """Turn corners by 180 degrees."""
    return SIZE - 1 - corners


def turned_jpeg_copies(tree):
    """Nothing in the names of the copies tells the original."""
    tree.add_images()
    for number in TRAIN:
        pixels = np.rot90(image(number), 2)
        tree.add_image(
            "train",
            f"extra{number + 500}",
            pixels,
            turn(corners_of(number)),
            number,
            ".jpg",
        )


def rotated_copies_of_roboflow(tree):
    """The copies are turned by 10 degrees, so that only their names tell the
    original."""
    matrix = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), 10, 1)
    tree.add_images(TEST)
    for number in TRAIN:
        hashes = [
            hashlib.md5(f"{number} {copy}".encode()).hexdigest() for copy in range(2)
        ]
        tree.add_image(
            "train",
            f"{number}_png.rf.{hashes[0]}",
            image(number),
            corners_of(number),
            number,
        )
        pixels = cv2.warpAffine(
            image(number), matrix, (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT
        )
        corners = corners_of(number) @ matrix[:, :2].T + matrix[:, 2]
        tree.add_image(
            "train",
            f"{number}_png.rf.{hashes[1]}",
            pixels,
            np.round(corners, 1),
            number,
        )


def training_images_again_in_test(tree):
    tree.add_images()
    for number in TRAIN[:6]:
        tree.add_image("test", number + 300, image(number), corners_of(number), number)


def mirrored_tail_with_new_numbers(tree):
    tree.add_images()
    for category in ("Tanker", "Dredger"):
        for number in range(6):
            pixels = np.fliplr(chip(100 * FUSAR[category] + number))
            tree.add_chip(category, number + 900, pixels, f"{category} {number}")


def partial_export(tree):
    """A third of the labels is missing or empty, and some labels have no image."""
    tree.add_images()
    labels = sorted((tree.root / "SRSDD").rglob("labels/*.txt"))
    for path in labels[::6]:
        path.unlink()
    for path in labels[1::6]:
        path.write_text("")
    for path in sorted((tree.root / "SRSDD").rglob("images/*.png"))[::9]:
        path.unlink()


def enlarged_images_and_labels(tree):
    tree.add_images(TRAIN)
    for number in TEST:
        tree.add_image(
            "test",
            number,
            np.kron(image(number), np.ones((2, 2), np.uint8)),
            2 * corners_of(number),
            number,
        )


def normalized_corners_in_test(tree):
    """Rows in other units than pixels are rejected, one by one."""
    tree.add_images()
    for number in TEST:
        path = tree.root / f"SRSDD/test/labels/{number}.txt"
        rows = zip(
            corners_of(number).reshape(2, 8) / SIZE, class_names(number), strict=True
        )
        path.write_text(
            "".join(
                " ".join(f"{value:.6f}" for value in row) + f" {name} 0\n"
                for row, name in rows
            )
        )


GOOD = {
    turned_jpeg_copies: 24 + 80,
    rotated_copies_of_roboflow: 24 + 80,
    training_images_again_in_test: 24 + 48,
    mirrored_tail_with_new_numbers: 24 + 48,
    partial_export: 24 + 30,
    enlarged_images_and_labels: 24 + 48,
    normalized_corners_in_test: 24 + 32,
}
"""Number of chips of each tree whose chips are all right."""


def labels_counted_from_zero(tree):
    tree.add_images()
    for number in (*TRAIN, *TEST):
        path = tree.root / f"SRSDD/{split_of(number)}/labels/{number}.txt"
        path.rename(path.with_name(f"{number - 1}.txt"))
    return mentions("of 15 images", "train", "not where the image is bright")


def labels_of_the_next_image(tree):
    tree.add_images()
    for number in TRAIN:
        tree.write_labels("train", number, corners_of(number + 1), number + 1)
    return mentions(
        "of 16 images", "train", "not where the image is bright", "--allow-partial"
    )


def labels_of_another_version(tree):
    tree.add_images()
    for number in TEST:
        tree.write_labels("test", number, corners_of(number + 700), number)
    return mentions("of 8 images", "test", "not where the image is bright")


def exchanged_coordinates(tree):
    tree.add_images()
    for number in (*TRAIN, *TEST):
        tree.write_labels(
            split_of(number), number, corners_of(number)[:, :, ::-1], number
        )
    return mentions("not where the image is bright", "direction")


def letterboxed_test_images(tree):
    """The test images have borders at top and bottom, and the labels do not count
    them."""
    tree.add_images()
    for number in TEST:
        pixels = np.pad(image(number)[24:-24], ((40, 40), (0, 0)))[16:-16]
        Image.fromarray(np.roll(pixels, 24, axis=0)).save(
            tree.root / f"SRSDD/test/images/{number}.png"
        )
    return mentions("of 8 images", "test", "not where the image is bright")


def mirrored_images_with_old_labels(tree):
    tree.add_images()
    for path in (tree.root / "SRSDD/train/images").iterdir():
        Image.fromarray(np.fliplr(np.asarray(Image.open(path)))).save(path)
    return mentions("of 16 images", "train", "not where the image is bright")


def enlarged_images_with_old_labels(tree):
    tree.add_images()
    for number in TEST:
        pixels = np.kron(image(number), np.ones((2, 2), np.uint8))
        Image.fromarray(pixels).save(tree.root / f"SRSDD/test/images/{number}.png")
    return mentions("of 8 images", "test", "another size")


WRONG = [
    labels_counted_from_zero,
    labels_of_the_next_image,
    labels_of_another_version,
    exchanged_coordinates,
    letterboxed_test_images,
    mirrored_images_with_old_labels,
    enlarged_images_with_old_labels,
]


@pytest.mark.parametrize("write", GOOD)
def test_every_chip_is_right(tmp_path, write):
    tree = Tree(tmp_path)
    write(tree)
    store = prepare_fusrs(
        tmp_path / "out", fusar=tmp_path / "FUSAR", srsdd=tmp_path / "SRSDD", jobs=1
    )
    splits_of = defaultdict(set)
    for path, split, label in store.table[["path", "split", "class"]].itertuples(
        index=False
    ):
        pixels = cv2.imread(str(store.root / path), cv2.IMREAD_UNCHANGED)
        expected, ship = tree.truth[digest(pixels)]
        assert label == expected
        splits_of[ship].add(split)
    assert len(store.table) == GOOD[write]
    assert all(len(splits) == 1 for splits in splits_of.values())


@pytest.mark.parametrize("write", WRONG)
def test_labels_that_do_not_fit_are_refused(tmp_path, write):
    message = write(Tree(tmp_path))
    build = {"fusar": tmp_path / "FUSAR", "srsdd": tmp_path / "SRSDD", "jobs": 1}
    with pytest.raises(DataError, match=message):
        prepare_fusrs(tmp_path / "out", **build)
    assert not (tmp_path / "out").exists()
