"""What the data set classes share."""

import numpy as np
import pytest
import torch

from rsft.data.datasets.images import (
    LabeledImages,
    stretch_to_white,
    to_image_tensor,
)


def test_values_are_kept_and_bands_come_first():
    pixels = np.arange(24, dtype=np.uint16).reshape(2, 4, 3)
    image = to_image_tensor(pixels)
    assert image.shape == (3, 2, 4) and image.dtype == torch.float32
    assert image[1, 0, 2] == pixels[0, 2, 1]


def test_the_brightest_pixels_are_white():
    stretched = stretch_to_white(np.arange(1001.0))
    assert stretched[0] == 0 and stretched[-1] == 1 and stretched[500] < 0.51
    assert not stretch_to_white(np.zeros(5)).any()


class Ships(LabeledImages):
    classes = ("tug", "cargo")

    def __len__(self):
        return 0


def test_bands_are_panels_with_the_class_above():
    sample = {"image": torch.rand(2, 4, 4), "label": 1, "prediction": 0}
    figure = Ships().plot(sample, suptitle="S")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["Label: cargo\nPrediction: tug"] * 2


def test_three_bands_are_one_panel_in_color():
    figure = Ships().plot({"image": torch.rand(4, 4, 4), "label": 1})
    (axes,) = figure.axes
    assert axes.get_title() == "Label: cargo"
    assert axes.images[0].get_array().shape == (4, 4, 3)


def test_a_data_set_loads_its_samples_itself():
    with pytest.raises(NotImplementedError):
        Ships()[0]
