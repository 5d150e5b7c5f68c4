"""Lets ``transformers`` read packed checkpoints once both packages are imported, in either order, without importing it here."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

__all__ = ["register_with_transformers"]

_WATCHED = "transformers.quantizers.auto"
"""The module with the table of quantisation methods. ``from_pretrained`` always imports it."""


def register_with_transformers() -> None:
    """Register the quantisation method ``tilewright``: now if transformers is loaded, otherwise as soon as it is."""
    if _WATCHED in sys.modules:
        _register()
    elif not any(isinstance(finder, _Watcher) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watcher())


def _register() -> None:
    import_module("tilewright.runtime.checkpoint.hub")


class _Watcher(MetaPathFinder):
    """Import hook that waits for one module, then removes itself."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the next finder's spec, extended to register after loading; None for every other module."""
        if name != _WATCHED:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Then(spec.loader)
        return spec


class _Then(Loader):
    """Loader that delegates to the module's own loader, then registers."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create the module."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module, then register."""
        self._loader.exec_module(module)
        _register()

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)
