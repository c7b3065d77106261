"""The classes of FUSRS by the categories of its archives."""

from rsft.data.datasets.formats.fusar_files import FUSAR_CATEGORIES
from rsft.data.datasets.formats.fusrs_classes import (
    CLASSES,
    FUSAR_CLASSES,
    FUSAR_TO_FUSRS,
    HEAD_CLASSES,
    SRSDD_TO_FUSRS,
    TAIL_CLASSES,
)
from rsft.data.datasets.formats.srsdd_files import SRSDD_CATEGORIES


def test_every_category_has_a_class_unless_it_could_be_any_ship():
    assert {*FUSAR_CATEGORIES} - {*FUSAR_TO_FUSRS} == {"Reserved", "Unspecified"}
    assert {*SRSDD_TO_FUSRS} == {*SRSDD_CATEGORIES}
    assert {*FUSAR_TO_FUSRS.values()} == {*SRSDD_TO_FUSRS.values()} == {*CLASSES[5]}
    assert FUSAR_TO_FUSRS["SAR"] == "other" and FUSAR_CLASSES["Tanker"] == "tanker"


def test_groups_contain_every_class_once():
    assert sorted(HEAD_CLASSES + TAIL_CLASSES) == sorted(CLASSES[5])
