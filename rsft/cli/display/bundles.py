"""Print what a bundle is."""

from __future__ import annotations

from rich.table import Table

from rsft.cli.display.console import (
    MEASURES,
    console,
    make_table,
    print_rows,
    shorten,
)
from rsft.types import JsonObject
from rsft.utils.licenses import describe_license


def show_bundle(description: JsonObject) -> None:
    """Print the description of a bundle, see `describe_bundle`."""
    print_rows(describe_rows(description))
    console.print(classes_table(description["classes"]))


def describe_rows(description: JsonObject) -> dict[str, str]:
    """Return the rows of `rsft bundle show`: texts by name."""
    recipe = f"{description['name']}, rsft {description['rsft_version']}"
    if description["runs"] > 1:
        recipe += f", average of {description['runs']} runs"
    size = f"{description['bytes'] / 1e6:.1f} MB"
    backbone = description["backbone"]
    rows = {
        "bundle": description["folder"],
        "sha256": description["sha256"],
        "recipe": recipe,
        "size": f"{size}, {description['parameters']:,} parameters",
        "backbone": f"{backbone['name']}  {backbone['sha256'][:12]}",
    }
    for entry in description["licenses"]:
        text = describe_license(entry["license"], entry["restrictions"])
        if entry["name"]:
            text = f"{entry['name']}: {text}"
        rows[f"license, {entry['source']}"] = text
    rows["method"] = _describe_method(description["method"])
    for key, text in description["chip"].items():
        rows[f"chip, {key}"] = text
    rows["accuracy"] = _describe_accuracy(description["metrics"])
    rows["confidence"] = _describe_confidence(description["confidence"])
    ignored = [f"{key} {value}" for key, value in description["ignored"].items()]
    if ignored:
        text = "finetune --from takes them from the command alone"
        rows["ignored"] = f"{', '.join(ignored)}: {text}"
    return rows


def _describe_method(method: JsonObject) -> str:
    settings = [
        f"{key} {value}"
        for key, value in method.items()
        if key != "method" and value is not None
    ]
    return ", ".join([method["method"], *settings])


def _describe_accuracy(metrics: JsonObject | None) -> str:
    if not metrics:
        return "not measured"
    texts = [
        f"{MEASURES.get(name, name)} {100 * entry['value']:.1f}"
        for name, entry in metrics.items()
        if isinstance(entry, dict)
    ]
    chips = f"{metrics['chips']:,} chips of {metrics['split']}"
    return f"{', '.join(texts)} % on {chips}"


def _describe_confidence(confidence: JsonObject | None) -> str:
    if confidence is None:
        return "none: probabilities are not calibrated"
    fit = (
        f"temperature {confidence['temperature']:.3g}, fitted on"
        f" {confidence['chips']:,} validation chips"
    )
    return "; ".join([fit, confidence["promise"], *confidence["notes"]])


def classes_table(classes: list[JsonObject]) -> Table:
    """Return the classes with their groups and training chips."""
    from rsft.models.bundle.bundle import INDEX_FILE

    shown, lines = shorten(classes, INDEX_FILE)
    rows = [[x["name"], x["group"] or "-", f"{x['train']:,}"] for x in shown]
    rows += [[line] for line in lines]
    title = f"{len(classes):,} classes, in the order of the logits"
    columns = ["class", "group", "training chips"]
    return make_table(title, columns, rows, texts=columns[:2])
