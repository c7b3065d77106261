"""Chip stores of scenes, with the options of `rsft prepare scenes` by their names."""

from __future__ import annotations

from dataclasses import fields

from rsft.scenes.options import ChipSize
from rsft.scenes.preparation.prepare import prepare_scenes
from rsft.scenes.preparation.request import SceneStoreRequest
from rsft.scenes.query import ObjectQuery

ARGUMENTS = ("jobs", "seed", "overwrite", "progress")


def prepare(source, root, **options):
    """Build a chip store; `ais` is a file of messages, `size` a text."""
    arguments = {name: options.pop(name) for name in ARGUMENTS if name in options}
    if options.get("size") is not None:
        options["size"] = ChipSize.parse(options["size"])
    if "field" in options:
        options["label_field"] = options.pop("field")
    objects = {
        item.name: options.pop(item.name)
        for item in fields(ObjectQuery)
        if item.name in options
    }
    if "ais" in options:
        objects["sources"] = {"ais": options.pop("ais")}
    request = SceneStoreRequest(ObjectQuery(**objects), **options)
    return prepare_scenes(source, root, request, **arguments)
