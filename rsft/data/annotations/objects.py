"""Formats that list objects in images: boxes, polygons and points with attributes."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rsft.data.annotations.base import (
    PIXEL,
    AnnotationFormat,
    Annotations,
    annotation_table,
    describe_counts,
    load_document,
)
from rsft.data.annotations.columns import text_column, typed_column
from rsft.errors import RequestError
from rsft.types import JsonObject, Size

if TYPE_CHECKING:
    import shapely

Shape = tuple["shapely.Geometry | None", str]
"""The shape of an object, or None and why it has none, see `try_shape`."""


class AnnotatedObject(NamedTuple):
    """One object of a file, see `Annotations`."""

    shape: shapely.Geometry | None
    fault: str
    attributes: JsonObject
    identity: Any
    image: str
    score: float | None


class ObjectList:
    """The objects of a file.

    Attributes:
        objects: the objects.
        images: names of the images, as far as the file names them.
        sizes: width and height of images.
        left_out: number of things that were left out, by their kind.
        notes: remarks for the reader.
    """

    def __init__(self) -> None:
        self.objects: list[AnnotatedObject] = []
        self.images: list[str] = []
        self.sizes: dict[str, Size] = {}
        self.left_out = Counter[str]()
        self.notes: list[str] = []

    def add(
        self,
        shape: Shape,
        attributes: JsonObject,
        identity: Any = None,
        image: str = "",
        score: float | None = None,
    ) -> None:
        """Add an object; its identity is its number from 1 if it has no other."""
        number = len(self.objects) + 1 if identity is None else identity
        self.objects.append(AnnotatedObject(*shape, attributes, number, image, score))

    def add_image(self, name: str, width: Any = None, height: Any = None) -> None:
        """Add an image, and its size if both sides are numbers."""
        if name:
            self.images.append(name)
        with suppress(TypeError, ValueError, OverflowError):
            size = (int(width), int(height))
            if min(size) > 0:
                self.sizes[name] = size

    def make_annotations(self, path: Path, crs: str, *, has_types: bool) -> Annotations:
        """Return the objects, with a column for every attribute of an object.

        Args:
            path: the file.
            crs: coordinate system of the shapes, PIXEL or FRACTION.
            has_types: whether attributes have types; else they are texts.
        """
        make_column = typed_column if has_types else text_column
        objects = self.objects
        columns = []
        names: JsonObject = {}
        for item in objects:
            names |= item.attributes
        for name in names:
            values = [item.attributes.get(name) for item in objects]
            columns.append(make_column(name, values))
        table = annotation_table(
            [item.shape for item in objects],
            [item.identity for item in objects],
            columns,
            scores=[item.score for item in objects],
            images=[item.image for item in objects],
            faults=[item.fault for item in objects],
        )
        return Annotations(
            table,
            crs,
            tuple(dict.fromkeys(self.images)),
            are_boxes=True,
            notes=[*self.notes, *describe_counts(path, "left out", self.left_out)],
            sizes=self.sizes,
        )


class ObjectFormat(AnnotationFormat):
    """Base class of formats that list objects in images.

    Attributes:
        crs: coordinate system of the shapes, PIXEL or FRACTION.
        has_types: whether attributes have types; else they are texts.
        hint: how to make a file of this format.
    """

    crs = PIXEL
    has_types = True
    hint = "export it again"

    @abstractmethod
    def parse(self, path: Path, objects: ObjectList) -> None:
        """Add the objects of a file.

        Raises:
            KeyError, TypeError, AttributeError, IndexError: it has not this format.
            ValueError: it cannot be used; the text says why.
        """

    def read(self, path: Path, layer: str | None = None) -> Annotations:
        objects = ObjectList()
        try:
            self.parse(path, objects)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise RequestError(
                f"not a file of {self.title}: {error!r}", path, self.hint
            ) from error
        except ValueError as error:
            raise RequestError(str(error), path, self.hint) from error
        return objects.make_annotations(path, self.crs, has_types=self.has_types)


class DocumentFormat(ObjectFormat):
    """Base class of formats in JSON or XML, which several formats share."""

    def recognizes(self, path: Path) -> bool:
        return super().recognizes(path) and self.matches(load_document(path))

    @abstractmethod
    def matches(self, content: Any) -> bool:
        """Return whether a document has this format.

        Args:
            content: the content of a JSON file, or the root element of an XML file.
        """

    @abstractmethod
    def parse_content(self, content: Any, objects: ObjectList) -> None:
        """Add the objects of a document, see `parse`."""

    def parse(self, path: Path, objects: ObjectList) -> None:
        self.parse_content(load_document(path), objects)
