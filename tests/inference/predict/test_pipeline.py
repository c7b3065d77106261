"""Prefetch in order, within bounds and in parallel; thumbnails."""

import threading
import time

import cv2
import numpy as np
import pytest

from rsft.inference.predict.pipeline import THUMBNAIL_SIDE, encode_thumbnail, prefetch


@pytest.mark.parametrize("workers", [1, 3])
def test_order_and_bound(workers):
    started = []

    def read(number):
        started.append(number)
        time.sleep(0.001 * (number % 3))
        return number

    for index, number in enumerate(prefetch(read, range(40), workers)):
        assert number == index and len(started) <= index + workers + 2
    assert number == 39


def test_prefetch_continues_while_results_are_used():
    second = threading.Event()
    items = prefetch(lambda number: second.set() if number else None, range(2), 1)
    next(items)
    assert second.wait(5)


def test_error_is_raised_with_its_result():
    with pytest.raises(ZeroDivisionError):
        list(prefetch(lambda number: 1 / number, [1, 0], 2))


@pytest.mark.parametrize("planes", [1, 2, 3, 5])
def test_thumbnails(planes):
    image = np.zeros((32, 32, planes), np.uint8)
    image[:, :, 0] = 200
    shown = cv2.imdecode(
        np.frombuffer(encode_thumbnail(image), np.uint8), cv2.IMREAD_UNCHANGED
    )
    assert shown.shape == (
        (THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3)
        if planes >= 3
        else (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    )
    # red is last in OpenCV
    assert (
        abs(int(shown.reshape(THUMBNAIL_SIDE, THUMBNAIL_SIDE, -1)[0, 0, -1]) - 200) < 4
    )
