"""The chips of a scene are compared with those of the training."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rsft.inference.predict.result_table import predictions_table
from rsft.inference.predict.scene_check import SceneCheck, check_scenes, describe_checks
from rsft.models.uncertainty.shift import Difference, ShiftTest
from tests.helpers.two_classes import fit_calibrator, outputs

CLASSES = ("cargo", "tanker")
LARGE = Difference(0.6, 1e-9)
SMALL = Difference(0.05, 0.9)
ALIKE = ShiftTest({"distance": SMALL, "probability": SMALL, "classes": SMALL})
SHIFTED = ShiftTest({"distance": LARGE, "probability": SMALL, "classes": SMALL})
UNTESTED = ShiftTest(reason="fewer than 10 chips with a distance")


@pytest.fixture(scope="module")
def calibrator():
    return fit_calibrator(np.random.default_rng(0), 80, 120)


def predictions(calibrator, count, shift=0.0, scene=None):
    labels = np.arange(count) % 2
    table = predictions_table(
        outputs(np.random.default_rng(count), labels, shift), CLASSES, calibrator
    )
    return table if scene is None else table.assign(scene=scene)


def test_similar_chips_keep_widened_sets(calibrator):
    table, (check,) = check_scenes(predictions(calibrator, 60), calibrator, CLASSES)
    assert (check.scene, check.chips, check.class_sets) == ("", 60, "widened")
    assert (
        check.ood == table["ood"].sum() < 9
        and check.test.shifted == ()
        and check.test.reason == ""
    )
    assert set(table["class_set"]) <= {
        "cargo",
        "tanker",
        "cargo | tanker",
        "tanker | cargo",
    }
    assert all(
        text.startswith(name)
        for name, text in zip(table["class"], table["class_set"], strict=True)
    )


def test_sets_of_a_foreign_scene_are_withheld(calibrator):
    tables = [
        predictions(calibrator, 40, scene="harbor.tif"),
        predictions(calibrator, 30, shift=9, scene="land.tif"),
    ]
    before = pd.concat(tables, ignore_index=True).sample(frac=1, random_state=0)
    table, (harbor, land) = check_scenes(before, calibrator, CLASSES)
    sets = [(check.scene, check.class_sets) for check in (harbor, land)]
    assert sets == [("harbor.tif", "widened"), ("land.tif", "withheld")]
    assert land.ood == 30 and "distance" in land.test.shifted
    assert table.loc[table["scene"] == "land.tif", "class_set"].isna().all()
    assert table.loc[table["scene"] == "harbor.tif", "class_set"].notna().all()
    kept = ["class", "class_2", "ood", "ood_distance", "scene"]
    assert table[kept].equals(before[kept])
    at_harbor = table["scene"] == "harbor.tif"
    assert (
        table[at_harbor]
        .drop(columns="class_set")
        .equals(before[at_harbor].drop(columns="class_set"))
    )
    assert land.is_lowered and not harbor.is_lowered
    lowered = table.loc[~at_harbor, ["p_cargo", "p_tanker"]]
    assert lowered.max(axis=1).equals(table.loc[~at_harbor, "probability"])
    assert (table["probability"] < before["probability"])[~at_harbor].any()
    assert "lowered to those of the validation chips" in describe_checks([land])[0]
    sentences = describe_checks([harbor, land])
    assert sentences[-1].startswith(
        f"{harbor.ood + 30} of 70 chips are unlike the training chips (5% are"
        " expected, up"
    )
    assert "% by chance): 30 of 30 in land.tif" in sentences[-1]
    assert (
        "class sets withheld for 30 chips of land.tif: most of these chips"
        in sentences[-2]
    )
    assert land.is_unusual and not (harbor.is_unusual or harbor.test.shifted)


def test_a_set_depends_on_the_scene_alone(calibrator):
    alone, _ = check_scenes(
        predictions(calibrator, 40, scene="a.tif"), calibrator, CLASSES
    )
    both = pd.concat(
        [
            predictions(calibrator, 40, scene="a.tif"),
            predictions(calibrator, 50, 0.5, scene="b.tif"),
        ]
    )
    together, _ = check_scenes(both.reset_index(drop=True), calibrator, CLASSES)
    assert together["class_set"].tolist()[:40] == alone["class_set"].tolist()


@pytest.mark.parametrize(
    ("count", "shift", "status"),
    [(5, 0.0, "plain"), (5, 9.0, "withheld"), (1, 0.0, "plain")],
)
def test_few_chips(calibrator, count, shift, status):
    before = predictions(calibrator, count, shift)
    table, (check,) = check_scenes(before, calibrator, CLASSES)
    assert (
        check.class_sets == status
        and check.test.reason == "fewer than 10 chips with a distance"
    )
    if status == "plain":
        assert table["class_set"].tolist() == before["class_set"].tolist()
    assert (
        describe_checks([check])[0]
        == f"not compared with the validation chips: {count} chips (fewer than 10 chips"
        " with a distance)"
    )


def test_a_distance_that_is_not_a_number_is_unlike_the_training_chips(calibrator):
    table = predictions(calibrator, 12)
    table.loc[:8, "ood_distance"] = np.nan
    result, (check,) = check_scenes(table, calibrator, CLASSES)
    assert (
        check.ood >= 9
        and check.class_sets == "withheld"
        and result["class_set"].isna().all()
    )


def test_rejected_chips_and_bundles_without_calibration(calibrator):
    table = pd.concat(
        [predictions(calibrator, 20), pd.DataFrame([{"rejected": "broken"}])],
        ignore_index=True,
    )
    result, (check,) = check_scenes(table, calibrator, CLASSES)
    assert check.chips == 20 and pd.isna(result["class_set"].iloc[-1])
    assert check_scenes(table, None, CLASSES)[1] == []
    empty = pd.DataFrame({"class": []})
    assert (
        check_scenes(empty, calibrator, CLASSES)[1] == [] and describe_checks([]) == []
    )


@pytest.mark.parametrize(("validation_chips", "unusual"), [(60, False), (600, True)])
def test_few_validation_chips_give_an_uncertain_limit(validation_chips, unusual):
    assert (
        SceneCheck("", 200, 22, ALIKE, "widened", validation_chips).is_unusual
        is unusual
    )


def test_sentences():
    expected = SceneCheck("", 208, 9, ALIKE, "widened", 80)
    unlike = (
        "9 of 208 chips are unlike the training chips (5% are expected, up to 13% by"
        " chance)"
    )
    assert describe_checks([expected]) == [unlike]
    shift, withheld, unlike = describe_checks(
        [SceneCheck("", 208, 182, SHIFTED, "withheld", 80)]
    )
    assert unlike.startswith("182 of 208 chips") and unlike.endswith(
        "; do not trust their classes"
    )
    assert (
        withheld.startswith("class sets withheld for 208 chips: ")
        and "not like the validation chips" in shift
    )
    shifted = [SceneCheck(f"{n}.tif", 50, 2, SHIFTED, "widened", 80) for n in range(12)]
    shift, unlike = describe_checks(
        [*shifted, SceneCheck("z.tif", 50, 2, ALIKE, "widened", 80)]
    )
    assert (
        "in 0.tif, 1.tif" in shift and "9.tif and 2 more scenes are not like" in shift
    )
    assert shift.endswith("coverage of 90%")
    assert (
        unlike.startswith("26 of 650 chips")
        and "5% are expected, up to 12% by chance" in unlike
    )
    few = SceneCheck("", 208, 182, SHIFTED, "withheld", 9)
    assert "10% are expected, up to 41% by chance" in describe_checks([few])[-1]
    counts = {
        "scene": "a",
        "chips": 3,
        "ood": 0,
        "class_sets": "plain",
        "full_sets": 0,
        "lowered": False,
        "shifted": [],
    }
    values = counts | {"reason": UNTESTED.reason}
    assert SceneCheck("a", 3, 0, UNTESTED, "plain", 80).as_json() == values


def test_class_sets_with_all_classes_tell_nothing(calibrator):
    before = predictions(calibrator, 30)
    before["class_set"] = ["cargo | tanker"] * 12 + ["cargo"] * 18
    few = [before.iloc[:9].assign(scene="a"), before.iloc[9:18].assign(scene="b")]
    _, checks = check_scenes(pd.concat(few), calibrator, CLASSES)
    assert [check.full_sets for check in checks] == [9, 3]
    assert (
        "class sets of 12 of 18 chips contain all classes, so they tell nothing"
        in describe_checks(checks)
    )


def test_chips_that_are_nearer_to_the_training_chips_give_no_warning():
    nearer = SceneCheck("", 33, 2, replace(SHIFTED, is_nearer=True), "widened", 60)
    assert not nearer.is_doubtful and [
        text[:20] for text in describe_checks([nearer])
    ] == ["2 of 33 chips are un"]
    assert nearer.as_json()["shifted"] == []
    farther = replace(nearer, test=SHIFTED)
    assert (
        farther.is_doubtful
        and "(farther from the training chips)" in describe_checks([farther])[0]
    )
    other = replace(
        SHIFTED, differences=SHIFTED.differences | {"classes": LARGE}, is_nearer=True
    )
    assert (
        "(shares of the classes)" in describe_checks([replace(nearer, test=other)])[0]
    )
