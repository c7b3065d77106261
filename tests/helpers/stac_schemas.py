"""Validate STAC items with the published schemas, without network: core from pystac,
extensions from the tests."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

SCHEMAS = Path(__file__).parents[1] / "plugins/publishing/schemas"
CORE = "https://schemas.stacspec.org/v1.1.0/item-spec/json-schema/item.json"


@cache
def _registry() -> Any:
    validator = pytest.importorskip(
        "pystac.validation.local_validator", reason="pystac-core is not installed"
    )
    referencing = pytest.importorskip(
        "referencing.jsonschema", reason="jsonschema is not installed"
    )
    from referencing import Registry

    schemas = dict(validator.get_local_schema_cache())
    for path in SCHEMAS.glob("*.json"):
        name, _, version = path.stem.partition("-")
        uri = f"https://stac-extensions.github.io/{name}/{version}/schema.json"
        schemas[uri] = json.loads(path.read_text("utf-8"))
    create = referencing.DRAFT7.create_resource
    return Registry().with_resources(
        (uri, create(schema)) for uri, schema in schemas.items()
    )


def item_faults(item: dict[str, Any]) -> list[str]:
    """Return what the schemas of STAC and of the item's extensions refuse.

    Args:
        item: a STAC item.
    """
    registry = _registry()
    from jsonschema import Draft7Validator

    return [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message}"
        for uri in (CORE, *item["stac_extensions"])
        for error in Draft7Validator({"$ref": uri}, registry=registry).iter_errors(item)
    ]
