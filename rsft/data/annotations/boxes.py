"""Boxes in images as detectors write them: DOTA, YOLO, YOLO-OBB and COCO."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import shapely
import yaml

from rsft.data.annotations import CLASS_NAME_FILES, CLASS_NAME_LEVELS, base
from rsft.data.annotations.base import (
    ANNOTATIONS,
    PIXEL,
    AnnotatedObject,
    AnnotationFormat,
    Annotations,
)
from rsft.data.annotations.shapes import make_box, make_centered_box, make_polygon
from rsft.errors import RequestError
from rsft.utils.tables import is_number
from rsft.utils.untrusted.documents import read_regular_text

_DOTA_HEADERS = ("imagesource", "gsd")
_COCO_SHAPES = frozenset(
    {"id", "image_id", "bbox", "segmentation", "keypoints", "score"}
)
"""Keys of annotations that are not attributes, because they are the identity, the shape
or the score."""
_COCO_HINT = (
    "COCO has images (file_name, id) and annotations (image_id, bbox), or is a list of"
    " results"
)
MAX_NAME_BYTES = 2**20
"""Largest file of names of classes: 1 MiB."""


class _TextBoxes(AnnotationFormat):
    """A text file with one box per line and without a header of columns.

    The identity of a box is its line.

    Attributes:
        crs: coordinate system of the boxes.
        rows: the fields of a line.
    """

    suffixes = (".txt",)
    crs: ClassVar[str]
    rows: ClassVar[str]

    @abstractmethod
    def parse(
        self, fields: list[str]
    ) -> tuple[shapely.Polygon, dict[str, str], float | None]:
        """Return the shape, the attributes and the score of a line.

        Raises:
            ValueError: the line has another form.
        """

    def read(self, path: Path, layer: str | None = None) -> Annotations:
        objects = []
        for line, fields in _read_fields(path):
            try:
                shape, attributes, score = self.parse(fields)
                objects.append(
                    AnnotatedObject(shape, "", attributes, line, score=score)
                )
            except ValueError as error:
                objects.append(AnnotatedObject(None, str(error), {}, line))
        return base.image_annotations(
            path, objects, crs=self.crs, column=base.text_column
        )


@ANNOTATIONS.register
class Yolo(_TextBoxes):
    """Upright and rotated boxes in fractions of the image size.

    A class is a number. It becomes the name that data.yaml, classes.txt or obj.names
    has for it, beside the file or in a folder above.
    """

    name = "yolo"
    title = "YOLO or YOLO-OBB"
    crs = base.FRACTION
    rows = (
        "`class x y width height [score]` or `class x1 y1 ... x4 y4 [score]` in"
        " fractions of the image size"
    )

    def recognizes(self, path: Path) -> bool:
        return super().recognizes(path) and not Dota().recognizes(path)

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    def read(self, path: Path, layer: str | None = None) -> Annotations:
        folders = path.absolute().parents[:CLASS_NAME_LEVELS]
        files = (folder / name for folder in folders for name in CLASS_NAME_FILES)
        named = (file for file in files if file.is_file() and file != path.absolute())
        names_path = next(
            (file for file in named if (names := _read_class_names(file))), None
        )
        if names_path is None:
            return super().read(path, layer)
        self.names = names
        numbers = {fields[0] for _, fields in _read_fields(path)}
        unnamed = ", ".join(sorted(numbers - set(self.names))[:10])
        notes = [f"the names of classes come from {names_path}"]
        notes += (
            [f"{names_path.name}: no name for class {unnamed}, which keeps its number"]
            if unnamed
            else []
        )
        return super().read(path, layer)._replace(notes=notes)

    def parse(
        self, fields: list[str]
    ) -> tuple[shapely.Polygon, dict[str, str], float | None]:
        if len(fields) not in (5, 6, 9, 10):
            raise ValueError(
                f"{len(fields)} fields; YOLO rows are {self.rows}, DOTA rows are"
                f" {Dota.rows}"
            )
        numbers = np.array(fields[1:], float)
        count = 4 if len(fields) < 9 else 8
        if (
            np.abs(numbers[:count] - 0.5).max() > 0.6
        ):  # boxes may extend a little beyond the edge
            raise ValueError("YOLO rows need fractions of the image size, from 0 to 1")
        if count == 4:
            shape = make_centered_box(*numbers[:4])
        else:
            shape = make_polygon(numbers[:8].reshape(4, 2))
        score = float(numbers[count]) if len(numbers) > count else None
        return shape, {"class": self.names.get(fields[0], fields[0])}, score


def _read_class_names(path: Path) -> dict[str, str]:
    """Return the names of classes by their numbers; none if YAML has no key `names`.

    YAML is not constructed, so that `no` and `007` are names, too.
    """
    hint = "it has a list of names, as Ultralytics or Darknet write it"
    try:
        text = read_regular_text(path, MAX_NAME_BYTES)
        if path.suffix != ".yaml":
            return {
                str(number): name.strip()
                for number, name in enumerate(text.splitlines())
                if name.strip()
            }
        root = yaml.compose(text, yaml.SafeLoader)
        if isinstance(root, yaml.MappingNode):
            content = {key.value: value for key, value in root.value}
        else:
            content = {}
        names = content.get("names")
        if isinstance(names, yaml.ScalarNode):
            raise ValueError("the key names has no list")
        nodes = names.value if names else []
        if isinstance(names, yaml.MappingNode):
            pairs = nodes
        else:
            pairs = enumerate(nodes)
        return {str(getattr(key, "value", key)): str(node.value) for key, node in pairs}
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RequestError(
            f"the names of classes cannot be read: {reason}", path, hint
        ) from error


@ANNOTATIONS.register
class Dota(_TextBoxes):
    """Quadrilaterals in pixels."""

    name = "dota"
    title = "DOTA"
    crs = PIXEL
    rows = "`x1 y1 x2 y2 x3 y3 x4 y4 class [difficulty]` in pixels"

    def recognizes(self, path: Path) -> bool:
        return super().recognizes(path) and any(
            self._has_class(fields) for _, fields in _read_fields(path)
        )

    def parse(
        self, fields: list[str]
    ) -> tuple[shapely.Polygon, dict[str, str], float | None]:
        if not self._has_class(fields):
            raise ValueError(f"{len(fields)} fields; DOTA rows are {self.rows}")
        shape = make_polygon(np.array(fields[:8], float).reshape(4, 2))
        return (
            shape,
            dict(zip(("class", "difficulty"), fields[8:10], strict=False)),
            None,
        )

    def _has_class(self, fields: list[str]) -> bool:
        return len(fields) >= 9 and not is_number(fields[8])


@ANNOTATIONS.register
class Coco(base.DocumentFormat):
    """Upright boxes of many images in JSON, or a list of the results of a detector.

    The name of the category is the class, and the attribute `category`. Annotations
    without ids are counted from 1.
    """

    name = "coco"
    title = "COCO"
    suffixes = (".json",)

    def matches(self, content: Any) -> bool:
        is_geojson = (
            isinstance(content, dict)
            and "type" in content
            and not {"images", "annotations"} <= set(content)
        )
        return not is_geojson  # COCO of converters has the type "instances"

    def read(self, path: Path, layer: str | None = None) -> Annotations:
        content = base.load_document(path)
        try:
            is_results = isinstance(content, list)
            if is_results:
                content = {"annotations": content, "images": ()}
            else:
                content = content
            files = {
                image["id"]: str(image["file_name"]) for image in content["images"]
            }
            categories = {x["id"]: x.get("name") for x in content.get("categories", [])}
            rows = content["annotations"]
            objects = [
                _parse_row(row, number, files, categories)
                for number, row in enumerate(rows, 1)
            ]
            images = [
                (str(x["file_name"]), x.get("width"), x.get("height"))
                for x in content["images"]
            ]
        except (KeyError, TypeError, AttributeError) as error:
            raise RequestError(
                f"not a COCO file: {error!r} is missing", path, _COCO_HINT
            ) from error
        if (
            is_results and len({item.image for item in objects}) > 1
        ):  # a list of results does not name its only image
            images = [(item.image, None, None) for item in objects]
        return base.image_annotations(path, objects, images)


def _read_fields(path: Path) -> list[tuple[int, list[str]]]:
    """Return the number and the fields of every line that is neither blank nor a header of DOTA."""
    try:
        lines = read_regular_text(path).splitlines()
    except UnicodeDecodeError as error:
        raise RequestError(
            "the file is not UTF-8 text",
            path,
            f"YOLO rows are {Yolo.rows}, DOTA rows are {Dota.rows}",
        ) from error
    rows = (
        (number, line)
        for number, line in enumerate(lines, 1)
        if not line.lower().startswith(_DOTA_HEADERS)
    )
    return [(number, line.split()) for number, line in rows if line.strip()]


def _parse_row(
    row: dict[str, Any], number: int, files: dict[Any, str], categories: dict[Any, Any]
) -> AnnotatedObject:
    """Return the object of an annotation of COCO."""
    shape, fault, score = _parse_box(row["bbox"], row.get("score"))
    attributes = {key: value for key, value in row.items() if key not in _COCO_SHAPES}
    if categories:
        category = categories.get(row.get("category_id"))
        attributes |= {"category": category, "class": category}
    image = files.get(row["image_id"], str(row["image_id"]))
    return AnnotatedObject(
        shape, fault, attributes, row.get("id", number), image, score
    )


def _parse_box(
    box: Any, score: Any
) -> tuple[shapely.Polygon | None, str, float | None]:
    """Return the shape of a COCO box, why it cannot be used, and its score."""
    fault = "bbox must be x, y, width, height"
    try:
        left, top, width, height = map(float, box)
        fault = f"the score {str(score)[:40]!r} is not a number"
        probability = None if score is None else float(score)
        fault = "the box has no area"
        return (
            make_box(left, top, left + max(width, 0), top + max(height, 0)),
            "",
            probability,
        )
    except (TypeError, ValueError, OverflowError):
        return None, fault, None
