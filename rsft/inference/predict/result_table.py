"""The predictions table: the outputs of a network, and the results of all batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from rsft.data.annotations.base import AT
from rsft.data.annotations.columns import concat_attributes, unique_names
from rsft.data.imagery.contract import Contract
from rsft.errors import WeightsError
from rsft.inference.predict.batch_journal import BatchJournal
from rsft.inference.predict.chip_files import PredictionPlan
from rsft.inference.writers.columns import (
    FORMAT_COLUMNS,
    TEXT,
    Classification,
    classified_columns,
    table_columns,
)
from rsft.models.bundle.bundle import Bundle
from rsft.models.outputs import ClassifierOutputs
from rsft.models.uncertainty.calibrator import Calibrator
from rsft.models.uncertainty.temperature import log_softmax
from rsft.scenes.locators import MATCHED
from rsft.types import Rejection
from rsft.utils.operating_system import path_to_text


def predictions_table(
    outputs: ClassifierOutputs, classes: Sequence[str], calibrator: Calibrator | None
) -> pd.DataFrame:
    """Convert the outputs of a network to table columns.

    Args:
        outputs: logits (N, C) and features (N, D).
        classes: names of the C classes.
        calibrator: calibrates probabilities; None leaves them uncalibrated.

    Returns:
        N rows with the columns that are computed from a classification, see
        `rsft.inference.writers.columns`.

    Raises:
        WeightsError: the logits are not finite.
    """
    return classified_columns(classify(outputs, classes, calibrator))


def classify(
    outputs: ClassifierOutputs, classes: Sequence[str], calibrator: Calibrator | None
) -> Classification:
    """Classify chips by the outputs of a network.

    Args:
        outputs: logits and features of the chips (N).
        classes: class names by index.
        calibrator: that of the bundle; None for a bundle that is not calibrated.

    Returns:
        Probabilities (N, C), with class sets and distances if there is a calibrator.

    Raises:
        WeightsError: the logits are not finite.
    """
    check_logits(outputs)
    if not calibrator:
        return Classification(classes, np.exp(log_softmax(outputs.logits)), None)
    estimate = calibrator.apply(*outputs)
    return Classification(classes, estimate.probabilities, estimate)


def check_logits(outputs: ClassifierOutputs) -> None:
    """Raise an error if logits are not finite.

    Raises:
        WeightsError: they are not.
    """
    if not np.isfinite(outputs.logits).all():
        raise WeightsError(
            "the model returns logits that are not finite",
            "",
            "train it with a lower learning rate",
        )


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
    result = journal.collect()
    rejected = []
    for positions in plan.positions:
        rejected += positions.rejected
    rejected += result.rejected
    table = select_columns(result.rows, table_columns(bundle.classes))
    table = _add_attributes(table, plan, bundle.classes)
    notes = [*plan.notes, *_describe_counts(table, result.counts, bundle.contract)]
    if not bundle.calibrator:
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
    return [
        f"the bands of {count:,} chips do not state their names: they are taken for"
        f" {', '.join(contract.bands)}; --bands {','.join(reversed(contract.bands))}"
        " declares another order"
    ]


def add_disagreements(
    rows: pd.DataFrame, predicted: pd.Series[Any], classes: Sequence[str]
) -> pd.DataFrame:
    """Say where the image shows another class than a locator, such as AIS.

    Args:
        rows: attributes. Those of a locator have the columns `<name>_status` and
            `<name>_class`.
        predicted: class of each row.
        classes: classes of the bundle; other classes are not compared.

    Returns:
        The attributes, with the column `<name>_note` for each locator.
    """
    for column in rows.columns:
        name = str(column).removesuffix("_class")
        if name == column or f"{name}_status" not in rows:
            continue
        stated = rows[column]
        is_matched = rows[f"{name}_status"] == MATCHED
        differs = is_matched & stated.isin(classes) & (stated != predicted)
        words = f"{name.upper()} says " + stated.astype(str)
        texts = words + ", the image says " + predicted.astype(str)
        notes = texts.where(differs.fillna(False), None).astype(TEXT)
        rows = rows.assign(**{f"{name}_note": notes})
    return rows


def select_columns(table: pd.DataFrame, types: dict[str, Any]) -> pd.DataFrame:
    """Return the columns with values, in order; a table without rows has all."""
    if table.empty:
        empty = {name: pd.Series(dtype=dtype) for name, dtype in types.items()}
        return pd.DataFrame(empty)
    has_values = table.notna().any()
    has_values["geometry"] = True
    names = [name for name in (*types, "thumb") if has_values.get(name, False)]
    table = table[names]
    if AT in table:
        return table.astype({AT: types[AT]})
    return table


def _add_attributes(
    table: pd.DataFrame, plan: PredictionPlan, classes: Sequence[str]
) -> pd.DataFrame:
    """Add identity and attributes of positions before the geometry."""
    attributes = []
    for positions in plan.positions:
        if positions.attributes is not None:
            attributes.append(
                positions.attributes.set_axis(
                    [path_to_text(location.name) for location in positions.locations]
                )
            )
    if not attributes:
        return table
    by_chip = concat_attributes(attributes)
    numbers = by_chip.index.get_indexer(pd.Index(table["chip"]))
    rows = by_chip.take(numbers).set_axis(table.index)
    taken = [*table_columns(classes), *FORMAT_COLUMNS]
    rows.columns = pd.Index([AT, *unique_names(rows.columns[1:], taken)])
    identity = rows.pop(AT)
    if identity.notna().any() or AT in table:
        table[AT] = identity
    rows = add_disagreements(rows, table["class"], classes)
    split = table.columns.get_loc("geometry")
    return pd.concat([table.iloc[:, :split], rows, table.iloc[:, split:]], axis=1)


def _describe_counts(
    table: pd.DataFrame, counts: Counter[str], contract: Contract
) -> list[str]:
    """Return notes on chips that are special in some way."""
    notes = describe_unnamed_chips(counts["unnamed"], contract)
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
    if counts["clipped"]:
        notes.append(
            "below the thermal noise, raised to the smallest value that the products"
            f" can hold: {counts['clipped']:,} values in chips"
        )
    return notes
