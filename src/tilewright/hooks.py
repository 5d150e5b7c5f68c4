"""Makes ``transformers`` read packed checkpoints in every program that imports this package, in either order, at no cost to others."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

__all__ = ["register_with_transformers"]

_WATCHED = "transformers.quantizers.auto"
"""The module that holds the table of quantisation methods; ``from_pretrained`` cannot work without it."""


def register_with_transformers() -> None:
    """Register the quantisation method ``tilewright`` now, if transformers is loaded, or as soon as it is."""
    if _WATCHED in sys.modules:
        _register()
    elif not any(isinstance(finder, _Watcher) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watcher())


def _register() -> None:
    import_module("tilewright.runtime.checkpoint.hub")


class _Watcher(MetaPathFinder):
    """Waits for one import, and steps aside."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec that the next finder has, with our step after its loading; None for every other module."""
        if name != _WATCHED:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Then(spec.loader)
        return spec


class _Then(Loader):
    """Loads a module as its own loader does, then registers."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create the module."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module, and register."""
        self._loader.exec_module(module)
        _register()

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)
