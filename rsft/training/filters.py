"""Whether the encoder of a candidate suits the chips, and how its filters do."""

from collections.abc import Sequence

from rsft.backbones.card import weights_path
from rsft.backbones.catalog import find_encoder
from rsft.data.chips.class_names import list_first_names
from rsft.errors import RequestError
from rsft.recipe.schema import Recipe


def spread_filters(recipe: Recipe, bands: Sequence[str]) -> tuple[Recipe, str]:
    """Return a recipe whose pre-trained encoder takes the bands of the chips, and how.

    The note is "" if the encoder takes them as they are.

    Args:
        recipe: the recipe of a candidate.
        bands: names of the bands of the chips.
    """
    data = recipe.data
    try:
        encoder = find_encoder(recipe.backbone.name)
    except RequestError:  # the run of the candidate says why
        return recipe, ""
    is_random = recipe.backbone.weights is None and encoder.weights is None
    takes_bands = set(encoder.bands) <= set(bands)
    if encoder.unit == "uint8" and len(bands) == 1:
        takes_bands = True  # a gray image
    if is_random or takes_bands or data.bands or data.remap != "replicate":
        return recipe, ""
    note = (
        f"{recipe.name}: the filters of {', '.join(encoder.bands)} are spread over"
        f" {list_first_names(bands)} (data.remap=expand)"
    )
    return recipe.with_keys("data", remap="expand"), note


def find_absence(recipe: Recipe, kind: str) -> str:
    """Return why a candidate does not take part; "" if it does.

    Args:
        recipe: the recipe of the candidate.
        kind: augmentation that suits the chips, "sar" or "optical".
    """
    augment = recipe.data.augment
    if {augment, kind} == {"sar", "optical"}:
        return f"it turns chips as {augment} images, and these are of the other kind"
    try:
        encoder = find_encoder(recipe.backbone.name)
    except RequestError:  # the run of the candidate says why
        return ""
    if recipe.backbone.weights or not encoder.weights:
        return ""
    if weights_path(encoder).is_file():
        return ""
    return f"its weights are not here; fetch them: rsft weights get {encoder.name}"
