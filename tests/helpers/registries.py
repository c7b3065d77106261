"""Registries that forget what a test installs."""


def copy_registry(registry, monkeypatch):
    """Let a registry forget after the test what it finds in it."""
    registry.names()  # so that rsft's own are in the copy
    # no public name removes a component: nobody but a test installs one for a while
    monkeypatch.setattr(registry, "_components", dict(registry._components))
