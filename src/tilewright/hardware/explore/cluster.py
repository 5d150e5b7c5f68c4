"""A sweep on a Ray cluster. Ray is imported here and nowhere else, when an address is given.

Workers only compute. Results come back to the caller, which alone writes the file; a task whose worker dies runs again somewhere else, and what it
had done before it died was never seen by anyone. So no result is lost, and none counts twice.
"""

import socket
from collections.abc import Iterator
from typing import Any

from ...errors import NotSupportedError, brief
from .design import describe
from .trial import Jobs, Result, evaluate

__all__ = ["run"]

_CHUNK = 16
"""Designs of a task: half a second of work, against a few milliseconds of scheduling."""
_RETRIES = 3
"""How often a task is run again when its worker dies."""
_PATIENCE = 10.0
"""Seconds to wait for someone to answer at the address."""


def run(jobs: Jobs, address: str) -> Iterator[tuple[str, Result]]:
    """Yield (key, result) of every job as it comes.

    Raises
    ------
    NotSupportedError
        If Ray is not installed.
    ConnectionError
        If there is no cluster at the address.
    RuntimeError
        If a task fails, or its workers die again and again; it names the designs that it had.
    """
    ray = _ray()
    mine = not ray.is_initialized()
    if mine:
        _reach(address)
        ray.init(address=address, log_to_driver=False)
    try:

        def chunk(part: Jobs) -> list[tuple[str, Result]]:
            return [(key, evaluate(design)) for key, design in part]

        task = ray.remote(num_cpus=1, max_retries=_RETRIES)(chunk)
        parts = [jobs[start : start + _CHUNK] for start in range(0, len(jobs), _CHUNK)]
        running = {task.remote(part): part for part in parts}
        while running:
            done = ray.wait(list(running), num_returns=1)[0][0]
            part = running.pop(done)
            try:
                results = ray.get(done)
            except ray.exceptions.RayError as error:
                raise RuntimeError(_death(part, sum(map(len, running.values())), len(jobs), error)) from error
            yield from results
    finally:
        if mine:
            ray.shutdown()


def _death(part: Jobs, waiting: int, jobs: int, error: Exception) -> str:
    """Say which designs a dead task had, and what is kept."""
    designs = ", ".join(describe(design) for _, design in part[:3]) + (
        f" and {len(part) - 3} more" if len(part) > 3 else ""
    )
    return (
        f"a task of the sweep failed, or its worker died {_RETRIES + 1} times ({brief(error)}). It had {designs}. The results of {jobs - waiting - len(part)} of "
        f"{jobs} designs are kept where `out` names a file; run again to go on with the others, or without these to pass them by"
    )


def _reach(address: str) -> None:
    """Refuse an address where nobody listens: Ray itself would try again for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # "auto" and the like: Ray knows
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except OSError as refusal:
        raise ConnectionError(
            f"there is no Ray cluster at {address}: {refusal}; start one with `ray start --head`, or leave address out to run here"
        ) from None


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise NotSupportedError(
            "a sweep on a cluster needs Ray: pip install 'tilewright[cluster]', or leave address out to run here"
        ) from None
    return ray
