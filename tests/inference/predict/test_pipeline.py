"""Reading ahead: in order, bounded, at the same time as the work."""

from __future__ import annotations

import threading
import time

import cv2
import numpy as np
import pytest

from rsft.inference.predict.pipeline import THUMB, picture, read_ahead


@pytest.mark.parametrize("workers", [1, 3])
def test_in_order_and_not_too_far(workers):
    begun = []

    def read(number):
        begun.append(number)
        time.sleep(0.001 * (number % 3))
        return number

    for place, number in enumerate(read_ahead(read, range(40), workers)):
        assert number == place and len(begun) <= place + workers + 2
    assert number == 39


def test_reading_goes_on_during_the_work():
    second = threading.Event()
    items = read_ahead(lambda number: second.set() if number else None, range(2), 1)
    next(items)
    assert second.wait(5)


def test_a_fault_of_a_reader_is_raised_where_it_is_used():
    with pytest.raises(ZeroDivisionError):
        list(read_ahead(lambda number: 1 / number, [1, 0], 2))


@pytest.mark.parametrize("planes", [1, 2, 3, 5])
def test_pictures(planes):
    image = np.zeros((32, 32, planes), np.uint8)
    image[:, :, 0] = 200
    shown = cv2.imdecode(np.frombuffer(picture(image), np.uint8), cv2.IMREAD_UNCHANGED)
    assert shown.shape == ((THUMB, THUMB, 3) if planes >= 3 else (THUMB, THUMB))
    assert abs(int(shown.reshape(THUMB, THUMB, -1)[0, 0, -1]) - 200) < 4  # red is last in OpenCV
