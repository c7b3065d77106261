"""The predictions table: its columns, notes and metadata, and checks of its scenes.

The chips of every scene are compared with the training and validation chips, and
detected objects with the truth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsft.data.annotations.base import AT
from rsft.data.annotations.columns import concat_attributes, unique_names
from rsft.data.imagery.contract import Contract
from rsft.errors import WeightsError
from rsft.inference.predict.batch_journal import BatchJournal
from rsft.inference.predict.chip_files import PredictionPlan, describe_assumed_bands
from rsft.inference.writers.columns import (
    FORMAT_COLUMNS,
    SET_SEPARATOR,
    TEXT,
    probability_columns,
    table_columns,
)
from rsft.models.bundle.bundle import Bundle
from rsft.models.outputs import ClassifierOutputs
from rsft.models.uncertainty import statistics
from rsft.models.uncertainty.calibrator import (
    Calibrator,
)
from rsft.types import Rejection
from rsft.utils.operating_system import path_to_text

if TYPE_CHECKING:
    pass


_DECIMALS = 6

_BATCHES = (
    256  # merged batches; a table of a few rows needs as much memory as one of many
)


def predictions_table(
    outputs: ClassifierOutputs, classes: Sequence[str], calibrator: Calibrator | None
) -> pd.DataFrame:
    """Convert the outputs of a network to table columns.

    Args:
        outputs: logits (N, C) and features (N, D).
        classes: names of the C classes.
        calibrator: calibrates probabilities; None leaves them uncalibrated.

    Returns:
        N rows with class, probability, class_2 and probability_2 (with at least two
        classes), class_set, ood and ood_distance (with a calibrator), and p_<class> of
        every class.

    Raises:
        WeightsError: the logits are not finite.
    """
    if not np.isfinite(outputs.logits).all():
        raise WeightsError(
            "the model returns logits that are not finite",
            "",
            "train it with a lower learning rate",
        )
    if calibrator is None:
        estimate = None
    else:
        estimate = calibrator.apply(*outputs)
    if estimate is None:
        probabilities = np.exp(statistics.log_softmax(outputs.logits))
    else:
        probabilities = estimate.probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")
    table = pd.DataFrame(index=range(len(order)))
    for rank, suffix in enumerate(("", "_2")[: len(classes)]):
        table[f"class{suffix}"] = np.array(classes, object)[order[:, rank]]
        table[f"probability{suffix}"] = np.take_along_axis(probabilities, order, 1)[
            :, rank
        ].round(_DECIMALS)
    if estimate is not None:
        table["class_set"] = format_sets(probabilities, estimate.sets, classes)
        table["ood"] = ~(
            estimate.ood <= 1
        )  # a distance that is not a number does not make a chip like the others
        table["ood_distance"] = estimate.ood.round(4)
    columns = pd.DataFrame(
        probabilities.round(_DECIMALS), columns=probability_columns(classes)
    )
    return pd.concat([table, columns], axis=1)


def format_sets(
    probabilities: NDArray[np.floating], sets: NDArray[np.bool_], classes: Sequence[str]
) -> list[str]:
    """Return the classes of every set as a text, the most probable class first.

    Args:
        probabilities: (N, C).
        sets: (N, C), the classes that a chip may have.
        classes: names of the C classes.

    Returns:
        N texts.
    """
    names = np.array(classes, object)
    order = np.argsort(-probabilities, axis=1, kind="stable")
    return [
        SET_SEPARATOR.join(names[ranking[members[ranking]]])
        for ranking, members in zip(order, sets, strict=True)
    ]


def collect_results(
    journal: BatchJournal, plan: PredictionPlan, bundle: Bundle
) -> tuple[pd.DataFrame, list[Rejection], list[str]]:
    """Combine the results of all batches.

    Returns:
        The predictions table with one row per chip, everything that was rejected, and
        notes for the reader. Columns without values are left out, but a table without
        rows has all. Identity and attributes of positions are before the geometry;
        attributes whose names are taken have the prefix `at_`.
    """
    tables = []
    counts = Counter[str]()
    types = table_columns(bundle.classes)
    rejected = [x for item in plan.positions for x in item.rejected]
    for result in journal.results(_BATCHES):
        tables += [result.rows] if len(result.rows) else []
        rejected += result.rejected
        counts.update(result.counts)
    table = pd.DataFrame(
        {name: pd.Series(dtype=dtype) for name, dtype in types.items()}
    )
    if tables:
        table = pd.concat(tables, ignore_index=True)
        columns = [
            name
            for name in types
            if name in table and (name == "geometry" or table[name].notna().any())
        ]
        table = table[[*columns, *(["thumb"] if "thumb" in table else [])]]
    attributes = [
        item.attributes.set_axis(
            [path_to_text(location.name) for location in item.locations]
        )
        for item in plan.positions
        if item.attributes is not None
    ]
    if attributes:
        table = _add_attributes(
            table, attributes, [*types, *FORMAT_COLUMNS], bundle.classes
        )
    elif tables and AT in table:
        table = table.astype({AT: types[AT]})
    notes = [*plan.notes, *describe_unnamed_chips(counts["unnamed"], bundle.contract)]
    missing = int(table["geometry"].isna().sum())
    if missing:
        notes.append(
            f"chips without a usable georeference have no geometry: {missing:,} of"
            f" {len(table):,}"
        )
    if counts["empty"]:
        notes.append(f"tiles without data were left out: {counts['empty']:,}")
    if counts["gray"]:
        notes.append(
            f"gray chips stored as RGB (only one band was used): {counts['gray']:,}"
        )
    clipped = counts["clipped"]
    if clipped:
        share = (
            f"{clipped:,} of {counts['values']:,} values in chips"
            f" ({clipped / counts['values']:.1%})"
        )
        notes.append(
            "below the thermal noise, raised to the smallest value that the products"
            f" can hold: {share}"
        )
    if bundle.calibrator is None:
        notes.append(
            "the bundle is not calibrated: probabilities are those of the network,"
            " without class_set and ood"
        )
    else:
        notes += [bundle.calibrator.promise(), *bundle.calibrator.notes(bundle.classes)]
    return table, rejected, notes


def describe_unnamed_chips(count: int, contract: Contract) -> list[str]:
    """Return the note on chips that do not name their bands, if there are any."""
    if not count:
        return []
    return [describe_assumed_bands(f"the bands of {count:,} chips", contract.bands)]


def _add_attributes(
    table: pd.DataFrame,
    attributes: Sequence[pd.DataFrame],
    taken: Sequence[str],
    classes: Sequence[str],
) -> pd.DataFrame:
    """Add identity and attributes of positions, which are indexed by the name of the chip, before the geometry."""
    by_chip = concat_attributes(attributes)
    rows = by_chip.take(by_chip.index.get_indexer(pd.Index(table["chip"]))).set_axis(
        table.index
    )
    rows.columns = pd.Index([AT, *unique_names(rows.columns[1:], taken)])
    identity = rows.pop(AT)
    if identity.notna().any() or AT in table:
        table[AT] = identity
    rows = add_disagreements(rows, table["class"], classes)
    split = table.columns.get_loc("geometry")
    return pd.concat([table.iloc[:, :split], rows, table.iloc[:, split:]], axis=1)


def add_disagreements(
    rows: pd.DataFrame, predicted: pd.Series[Any], classes: Sequence[str]
) -> pd.DataFrame:
    """Add the column `ais_note` to attributes with a class of AIS: where the image shows another class.

    Args:
        rows: attributes, with the columns ais_status and ais_class, or without them.
        predicted: class of each row.
        classes: classes of the bundle; other classes of AIS are not compared.

    Returns:
        The attributes; with the column, if they have a class of AIS.
    """
    if "ais_class" not in rows:
        return rows
    differs = (
        (rows["ais_status"] == "matched")
        & rows["ais_class"].isin(classes)
        & (rows["ais_class"] != predicted)
    )
    texts = (
        "AIS says "
        + rows["ais_class"].astype(str)
        + ", the image says "
        + predicted.astype(str)
    )
    return rows.assign(ais_note=texts.where(differs.fillna(False), None).astype(TEXT))
