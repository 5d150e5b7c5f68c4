"""Cycle models of the machines, one per engine: functions from a machine and an operation to an `OperationResult`."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from ...errors import ArgumentError, unknown
from ..machine.spec import AcceleratorSpec
from ..result import Fidelity, OperationResult
from ..workload import Operation
from .memory import dram_bandwidth
from .vector import visible

__all__ = ["ENGINES", "Run", "dram_bandwidth", "visible"]

Run: TypeAlias = Callable[[AcceleratorSpec, Operation, str, Fidelity], OperationResult]
"""``run(spec, operation, dtype, fidelity)``; fidelity is ``"analytical"`` or ``"tiles"``."""

_HOMES = {"tensor-core": "tensor_core", "sta": "sta", "s4": "s4"}


class _Engines(Mapping[str, Run]):
    """Engines by name; the module of an engine is imported on first use."""

    def __getitem__(self, name: str) -> Run:
        if name not in _HOMES:
            raise ArgumentError(unknown("engine", name, _HOMES))
        run: Run = importlib.import_module(f".{_HOMES[name]}", __name__).run
        return run

    def __iter__(self) -> Iterator[str]:
        return iter(_HOMES)

    def __len__(self) -> int:
        return len(_HOMES)

    def __contains__(self, name: object) -> bool:
        return name in _HOMES


ENGINES: Mapping[str, Run] = _Engines()
"""The engines, by the name in `AcceleratorSpec.engine`."""
