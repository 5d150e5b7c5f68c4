"""A sweep on a Ray cluster. Ray is imported nowhere else, and only when an address is given.

Workers only compute: results return to the caller, which alone writes the file. If a worker dies, its task runs again
elsewhere, and its partial results are discarded. So no result is lost, and none is counted twice.
"""

import socket
from collections.abc import Iterator
from typing import Any

from ...errors import NotSupportedError, brief
from .design import describe
from .trial import Jobs, Result, evaluate

__all__ = ["run"]

_CHUNK = 16
"""Designs per task: half a second of work, against a few milliseconds of scheduling."""
_RETRIES = 3
"""How often a task runs again after its worker died."""
_PATIENCE = 10.0
"""Seconds to wait for an answer at the address."""


def run(jobs: Jobs, address: str) -> Iterator[tuple[str, Result]]:
    """Yield the key and the result of every job as it finishes.

    Raises
    ------
    NotSupportedError
        If Ray is not installed.
    ConnectionError
        If there is no cluster at the address.
    RuntimeError
        If a task fails, or its workers die repeatedly; the message names its designs.
    """
    ray = _ray()
    fresh = not ray.is_initialized()
    if fresh:
        _reach(address)
        ray.init(address=address, log_to_driver=False)
    try:

        def chunk(part: Jobs) -> list[tuple[str, Result]]:
            return [(key, evaluate(design)) for key, design in part]

        task = ray.remote(num_cpus=1, max_retries=_RETRIES)(chunk)
        parts = [jobs[start : start + _CHUNK] for start in range(0, len(jobs), _CHUNK)]
        running = {task.remote(part): part for part in parts}
        while running:
            reference = ray.wait(list(running), num_returns=1)[0][0]
            part = running.pop(reference)
            try:
                results = ray.get(reference)
            except ray.exceptions.RayError as error:
                raise RuntimeError(_death(part, sum(map(len, running.values())), len(jobs), error)) from error
            yield from results
    finally:
        if fresh:
            ray.shutdown()


def _death(part: Jobs, waiting: int, jobs: int, error: Exception) -> str:
    """Return a message with the designs of a failed task, and which results are kept."""
    designs = ", ".join(describe(design) for _, design in part[:3]) + (
        f" and {len(part) - 3} more" if len(part) > 3 else ""
    )
    return (
        f"a task of the sweep failed, or its worker died {_RETRIES + 1} times ({brief(error)}). Its designs were {designs}. If `out` "
        f"names a file, it has the results of {jobs - waiting - len(part)} of {jobs} designs; run again to continue, or leave these "
        "designs out to skip them"
    )


def _reach(address: str) -> None:
    """Raise if nothing listens at the address: Ray itself would retry for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # "auto" and the like are resolved by Ray
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except OSError as refusal:
        raise ConnectionError(
            f"no Ray cluster at {address}: {refusal}; start one with `ray start --head`, or leave address out to run here"
        ) from None


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise NotSupportedError(
            "a sweep on a cluster needs Ray: pip install 'tilewright[cluster]', or leave address out to run here"
        ) from None
    return ray
