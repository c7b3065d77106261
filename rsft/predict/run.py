"""The job: new chips in, a table of classes and probabilities out, and a list of what was refused."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsft import __version__
from rsft.bundle import Bundle
from rsft.classifier import load_classifier
from rsft.errors import DataError, WeightsError
from rsft.files import replacing
from rsft.imagery.contract import Contract
from rsft.imagery.read import read_chip
from rsft.imagery.units import Pixels
from rsft.predict.footprints import footprint
from rsft.predict.inputs import NOTHING, Declared, find_chips
from rsft.predict.outputs import check_output, write_predictions

Progress = Callable[[int, int, str], None]  # done, total, what
Classify = Callable[[Tensor], Tensor]  # (N, 3, S, S) float32 -> logits (N, C)
Refused = list[tuple[Path, str]]  # file, reason


@dataclass(frozen=True)
class Predictions:
    """What a job made.

    Attributes:
        table: a row a chip: chip, path, class, probability, p_<class> of every class, geometry (EPSG:4326 or None).
        rejected: files that were refused, with the reason.
        counts: chips of each class.
        out: the file with the table.
        notes: what was done to some chips, in sentences.
    """

    table: pd.DataFrame
    rejected: Refused
    counts: dict[str, int]
    out: Path
    notes: list[str]


def predict(
    bundle_dir: Path,
    inputs: Sequence[Path],
    out: Path,
    *,
    declared: Declared = NOTHING,
    overwrite: bool = False,
    batch_size: int = 64,
    device: str = "auto",
    progress: Progress | None = None,
) -> Predictions:
    """Classify chips and write the table to `out`, the refused to `<out stem>.rejected.csv` beside it.

    Args:
        declared: unit and bands of all chips; what is None there is taken from a chip store's manifest.

    Raises:
        RequestError: no bundle, no chips, or an output that cannot be written.
        WeightsError: a bundle that cannot be used.
        DataError: not one chip could be classified.
    """
    bundle = Bundle.load(bundle_dir)
    check_output(out, _columns(bundle.classes), overwrite=overwrite)
    chips, skipped, known = find_chips(inputs)
    known = {path: declared.or_else(known.get(path, NOTHING)) for path in chips}
    model = load_classifier(bundle, device)
    place = next(model.parameters()).device
    result = classify_chips(
        known, bundle.contract, bundle.classes, lambda x: model(x.to(place)), batch_size=batch_size, progress=progress
    )
    listing = _write_rejected(out, result.rejected)
    if result.table.empty:
        path, reason = result.rejected[0]
        raise DataError(f"none of the {len(chips):,} chips can be used; {path}: {reason}", listing, "see the list")
    metadata = {"rsft_version": __version__, "bundle_sha256": bundle.sha256, "classes": list(bundle.classes)}
    notes = write_predictions(result.table, out, metadata, overwrite=overwrite)
    if result.grey:
        notes.append(f"grey chips stored as RGB, of which one band was used: {result.grey:,}")
    if skipped:
        notes.append(f"files of folders skipped for their suffix: {skipped:,}")
    if result.rejected:
        notes.append(f"chips refused: {len(result.rejected):,}, listed in {listing}")
    counts = {name: int((result.table["class"] == name).sum()) for name in bundle.classes}
    return Predictions(result.table, result.rejected, counts, out, notes)


@dataclass
class Classified:
    """The table so far, what was refused, and how many chips were grey stored as RGB."""

    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    rejected: Refused = field(default_factory=list)
    grey: int = 0


def classify_chips(
    chips: Mapping[Path, Declared],
    contract: Contract,
    classes: Sequence[str],
    classify: Classify,
    *,
    batch_size: int,
    progress: Progress | None = None,
) -> Classified:
    """Classify chips batch by batch; one that cannot be read or breaks the contract is refused, and the job goes on.

    Args:
        chips: each with its unit and bands as far as they are declared.
    """
    result = Classified()
    tables = [pd.DataFrame(columns=_columns(classes))]
    paths = list(chips)
    for start in range(0, len(paths), batch_size):
        kept: list[Path] = []
        batch: list[NDArray[np.float32]] = []
        for path in paths[start : start + batch_size]:
            try:
                unit, bands = chips[path]
                pixels = contract.arrange(read_chip(path), bands)
                band = _one_band(pixels, contract)
                batch.append(contract.to_input(pixels if band is None else band, unit))
            except DataError as error:
                result.rejected.append((path, error.what))
                continue
            kept.append(path)
            result.grey += band is not None
        if batch:
            tables.append(_table(kept, _probabilities(classify, np.stack(batch)), classes))
        if progress:
            progress(min(start + batch_size, len(paths)), len(paths), "classifying")
    result.table = pd.concat(tables[1:] or tables, ignore_index=True)
    return result


def _one_band(pixels: Pixels, contract: Contract) -> Pixels | None:
    """The band of a grey chip that was stored as RGB, where the model takes one band."""
    grey = pixels.shape[2] == 3 and bool((pixels == pixels[:, :, :1]).all())
    return pixels[:, :, :1] if grey and len(contract.bands) == 1 else None


@torch.inference_mode()
def _probabilities(classify: Classify, batch: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, 3, S, S) -> (N, C)."""
    logits = classify(torch.from_numpy(batch)).double().cpu()
    if not logits.isfinite().all():
        raise WeightsError("the model returns logits that are not finite", "", "train it again with a lower rate")
    return logits.softmax(1).numpy()


def _table(paths: list[Path], probabilities: NDArray[np.float64], classes: Sequence[str]) -> pd.DataFrame:
    table = pd.DataFrame(probabilities.round(6), columns=[f"p_{name}" for name in classes])
    table.insert(0, "chip", [_text(path.name) for path in paths])
    table.insert(1, "path", [_text(path) for path in paths])
    table.insert(2, "class", [classes[index] for index in probabilities.argmax(1)])
    table.insert(3, "probability", probabilities.max(1).round(6))
    table["geometry"] = pd.Series([footprint(path) for path in paths], dtype=object)
    return table


def _columns(classes: Sequence[str]) -> list[str]:
    return ["chip", "path", "class", "probability", *(f"p_{name}" for name in classes), "geometry"]


def _text(path: Path | str) -> str:
    """A path as text that every format can hold, whatever bytes its name is made of."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def _write_rejected(out: Path, rejected: Refused) -> Path:
    listing = out.with_suffix(".rejected.csv")
    if not rejected:
        listing.unlink(missing_ok=True)  # of an earlier job
        return listing
    with replacing(listing) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "line", "reason"])
        writer.writerows((_text(path), 0, reason) for path, reason in rejected)
    return listing
