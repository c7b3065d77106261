"""The files and addresses that a corrected table may name."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import RequestError
from rsft.utils.input_paths import exists


class Sources:
    """The files and addresses that a table may name.

    A stranger's table would bring private files into the store.

    Args:
        store: the chip store.
        table: the table.
        named: what the user names; None allows everything.
    """

    def __init__(
        self, store: Path, table: Path, named: Sequence[str] | None = None
    ) -> None:
        uris = [SceneUri.parse(text) for text in named or ()]
        self.table = table
        self.allows_all = named is None
        self.addresses = [uri.text.rstrip("/") for uri in uris if uri.is_remote]
        folders = [store, table.parent]
        folders += [uri.path for uri in uris if uri.path]
        self.folders = [folder.resolve() for folder in folders]

    def find_file(self, paths: Iterable[Path], location: object) -> Path | None:
        """Return the first file that lies in one of the folders, with links resolved.

        Args:
            paths: places where the file may be.
            location: place in the table that names it.

        Returns:
            The path; None if there is no file at all.

        Raises:
            RequestError: files lie elsewhere only.
        """
        existing = [path for path in paths if exists(path) and path.is_file()]
        for path in existing:
            if self.allows_all or any(map(path.resolve().is_relative_to, self.folders)):
                return path
        if not existing:
            return None
        raise RequestError(
            f"the table names {existing[0]}, which is neither in the store nor in the"
            " folder of the table",
            location,
            f"if you trust the table, add --source {existing[0].resolve().parent}",
        )

    def check(self, uri: SceneUri) -> None:
        """Raise an error if the user names neither an address nor its server.

        Raises:
            RequestError: an address is not named.
        """
        if not uri.is_remote or self.allows_all:
            return
        if not any(f"{uri.text}/".startswith(f"{x}/") for x in self.addresses):
            raise RequestError(
                f"the table names {uri}, but no argument of the command does",
                self.table,
                f"if you trust the table, add --source {uri}",
            )
