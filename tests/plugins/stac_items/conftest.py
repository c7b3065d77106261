"""The folder and the server of the tests of scenes."""

from tests.scenes.conftest import folder, server

__all__ = ["folder", "server"]
