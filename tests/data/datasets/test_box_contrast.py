"""Boxes lie where images are bright, or the labels are refused; noise shows nothing."""

import cv2
import numpy as np
import pytest

from rsft.data.datasets.box_contrast import check_contrast, measure_contrast
from rsft.data.datasets.formats.srsdd_files import SRSDDShips
from tests.data.datasets.srsdd.data import write_srsdd
from tests.helpers.messages import mentions


def corners(left, top, right, bottom):
    return (left, top, right, top, right, bottom, left, bottom)


def sea(seed=0, shape=(96, 96)):
    return np.clip(np.random.default_rng(seed).gamma(4, 8, shape), 0, 255).astype(
        np.uint8
    )


def test_contrast_of_boxes():
    image = sea()
    image[20:28, 10:50] = 220
    right = corners(10, 20, 50, 28)
    wrong = corners(20, 60, 60, 68)
    assert measure_contrast(image, [right]) > 0.95
    assert abs(measure_contrast(image, [wrong])) < 0.1
    assert measure_contrast(image, [right, wrong]) == pytest.approx(0.5, abs=0.05)
    assert measure_contrast(image.astype(np.uint16) * 200, [right]) > 0.95
    assert abs(measure_contrast(image, [corners(300, 300, 340, 308)])) < 0.1  # outside


def test_boxes_larger_than_the_image_are_cut_to_half_of_it():
    image = sea()
    image[40:56, 40:56] = 250
    assert measure_contrast(image, [corners(-20, -20, 116, 116)]) > 0.9


def test_noise_and_constant_images_show_nothing():
    for image in (sea(), np.full((96, 96), 9, np.uint8), sea(1, (5, 7))):
        assert measure_contrast(image, [corners(1, 1, 5, 4)]) is None


def write_ships(root, count, missing=()):
    """Write images with a bright ship in each box, but not in those of the images
    `missing`."""
    write_srsdd(root, {number: ["Fishing", "Dredger"] for number in range(count)})
    for number in range(count):
        image = sea(number)
        for top in (30, 55) if number in missing else (2, 84):
            image[top : top + 8, 10:50] = 220
        cv2.imwrite(str(root / f"images/{number}.png"), image)
    return SRSDDShips(root).ships


@pytest.mark.parametrize(
    ("missing", "is_refused"), [(range(4), False), (range(5), False), (range(6), True)]
)
def test_most_images_must_agree(tmp_path, missing, is_refused):
    ships = write_ships(tmp_path, 10, missing)
    if not is_refused:
        return check_contrast(ships, tmp_path)
    with pytest.raises(
        ValueError, match=mentions("in 6 of 10 images", "images/0.png", "other images")
    ):
        check_contrast(ships, tmp_path)


def test_each_split_is_checked(tmp_path):
    write_ships(tmp_path / "train", 40)
    write_ships(tmp_path / "test", 5, range(5))
    (tmp_path / "train/images/3.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match=mentions("in 5 of 5 images", "test/images")):
        check_contrast(SRSDDShips(tmp_path).ships, tmp_path)


@pytest.mark.slow
@pytest.mark.realdata
def test_real_ships_are_bright_and_wrong_boxes_are_not(shared):
    """Boxes of ships in 18 scenes of HRSID, from their masks."""
    contrasts = {"right": [], "exchanged": [], "scaled": [], "next": []}
    scenes = [
        read_hrsid_scene(path) for path in sorted(shared("hrsid_scenes").rglob("*.jpg"))
    ]
    for (image, boxes), (_, others) in zip(
        scenes, [*scenes[1:], scenes[0]], strict=True
    ):
        variants = {
            "right": boxes,
            "exchanged": boxes[:, [1, 0, 3, 2]],
            "scaled": boxes * 0.8,
            "next": others,
        }
        for name, variant in variants.items():
            contrasts[name].append(
                measure_contrast(image, [corners(*box) for box in variant.tolist()])
            )
    assert len(scenes) == 18 and min(contrasts.pop("right")) > 0.4
    for name, values in contrasts.items():
        misses = [value for value in values if value is not None and value < 0.2]
        assert len(misses) >= 14, name


def read_hrsid_scene(path):
    """Return the image, and left, top, right and bottom of the parts of its mask with
    at least 10 pixels."""
    [mask] = path.parents[1].rglob(f"{path.stem}*.png")
    is_ship = cv2.imread(str(mask))[:, :, 1] > 100
    _, _, parts, _ = cv2.connectedComponentsWithStats(is_ship.astype(np.uint8))
    boxes = [
        (x, y, x + width, y + height)
        for x, y, width, height, area in parts[1:].tolist()
        if area >= 10
    ]
    return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), np.array(boxes, np.float64)
