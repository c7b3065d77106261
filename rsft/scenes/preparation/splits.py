"""Divide the objects of scenes between train, val and test."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rsft.data.chips.group_splits import split_groups
from rsft.data.chips.manifest import SPLITS
from rsft.errors import RequestError
from rsft.scenes.preparation.labels import LabeledObject
from rsft.scenes.preparation.request import SplitBy


def default_split(
    objects: Sequence[LabeledObject], shares: Mapping[str, float]
) -> SplitBy:
    """Return what is divided: scenes, or the objects of fewer scenes than splits."""
    scenes = {item.scene.name for item in objects}
    return "scene" if len(scenes) >= len(_filled_splits(shares)) else "object"


def assign_splits(
    objects: Sequence[LabeledObject],
    by: SplitBy,
    shares: Mapping[str, float],
    seed: int,
) -> list[str]:
    """Return the split of each object.

    Args:
        objects: the objects.
        by: what is divided.
        shares: share of each split.
        seed: seed of random choices.

    Returns:
        The splits, in the order of the objects.

    Raises:
        RequestError: there is one group only, a label without a vessel, or a label
            without a split.
    """
    if by == "given":
        return [_given_split(item) for item in objects]
    if by == "vessel" and not any(item.vessel for item in objects):
        raise RequestError("the labels have no field mmsi", "--split", "choose scene")
    if by == "object":
        groups = [item.location.name for item in objects]
    else:
        groups = [group_of(item, by) for item in objects]
    splits = _filled_splits(shares)
    count = len(set(groups))
    if count < len(splits):
        raise RequestError(
            f"{by}: {count} cannot be divided between {', '.join(splits)}",
            "--split",
            "give more scenes, or --split object",
        )
    split_of = split_groups([item.label for item in objects], groups, shares, seed)
    return [split_of[group] for group in groups]


def _filled_splits(shares: Mapping[str, float]) -> list[str]:
    return [name for name, share in shares.items() if share > 0]


def group_of(item: LabeledObject, by: SplitBy) -> str:
    """Return the group that is in one split: the scene, or the vessel.

    A label without a vessel goes with its scene.
    """
    if by == "vessel" and item.vessel:
        return item.vessel
    return item.scene.name


def _given_split(item: LabeledObject) -> str:
    folders = [part.lower() for part in reversed(Path(item.scene.path.text).parts)]
    named = [name for name in folders if name in SPLITS]
    split = item.split or (named[0] if named else "")
    if split in SPLITS:
        return split
    message = "a label has no split"
    if split:
        message = f"the split of a label is {split!r}"
    raise RequestError(
        message,
        item.scene.path,
        "give a field split with train, val or test, or put the scenes in folders of"
        " these names",
    )
