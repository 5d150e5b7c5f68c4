"""What every room's value classes promise: they are frozen, and those that hold arrays compare by identity."""

import dataclasses
import importlib
import pkgutil


def values_of(package: str) -> list[type]:
    """Return the dataclasses that the modules of a package define."""
    door = importlib.import_module(package)
    inside = [module.name for module in pkgutil.walk_packages(getattr(door, "__path__", []), f"{package}.")]
    modules = [door, *(importlib.import_module(name) for name in inside if not name.rpartition(".")[2].startswith("_"))]
    classes = {
        kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__.startswith(package)
    }
    return sorted(classes, key=lambda kind: kind.__qualname__)


def check_value(kind: type, mutable: tuple[str, ...] = ()) -> None:
    """Check a class: arrays have no truth value, so a comparison field by field would raise where it should answer."""
    assert kind.__dataclass_params__.frozen == (kind.__name__ not in mutable), kind
    arrays = [field.name for field in dataclasses.fields(kind) if "ndarray" in str(field.type).lower()]
    if arrays:
        assert not kind.__dataclass_params__.eq, f"{kind.__name__} holds {arrays}"
