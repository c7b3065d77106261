"""Documents that name the files of a scene, such as STAC items, and their registry.

Another package adds one through the entry-point group "rsft.scene_documents".
"""

from typing import ClassVar, NamedTuple, Protocol

from rsft.data.imagery.raster_values import Scaling
from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import RequestError
from rsft.types import Names
from rsft.utils.registry import Registry


class ItemBand(NamedTuple):
    """What a document says about a band; None if it does not.

    Its unit is written as in the document.
    """

    name: str | None
    unit: str | None
    scaling: Scaling
    nodata: float | None
    spacing_m: float | None


class Item(NamedTuple):
    """The assets of a document that are opened as one scene, and their bands."""

    assets: Names
    files: tuple[SceneUri, ...]
    bands: tuple[ItemBand, ...]
    unit: str | None


class SceneDocument(Protocol):
    """A kind of document.

    Attributes:
        name: its name in the registry.
    """

    name: ClassVar[str]

    @classmethod
    def read(cls, uri: SceneUri, asset: str | None) -> Item | None:
        """Read a scene that is a document of this kind; return None for other scenes.

        Args:
            uri: the scene.
            asset: names of the assets to open, separated by commas; None leaves the
                choice to the document.
        """


DOCUMENTS: Registry[type[SceneDocument]] = Registry(
    "scene document", "rsft.scene_documents", "rsft.scenes.documents"
)
"""All kinds of documents by name."""


def read_item(uri: SceneUri, asset: str | None) -> Item | None:
    """Read a scene that is a document of any kind; return None for other scenes.

    Raises:
        DataError: the document is damaged, or an asset cannot be a scene.
        RequestError: the assets must be chosen, or the scene is no document.
        NetworkError: a server does not send the document.
    """
    for kind in DOCUMENTS:
        item = DOCUMENTS[kind].read(uri, asset)
        if item:
            return item
    if asset is not None:
        raise RequestError(
            "assets are those of STAC items",
            uri,
            "leave out --read asset=..., or give the item",
        )
    return None
