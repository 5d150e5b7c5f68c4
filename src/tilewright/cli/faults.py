"""Turn exceptions into one sentence and an exit code for the user."""

import errno
from dataclasses import dataclass
from typing import cast

import typer

from ..errors import CheckFailed, NotSupportedError, TilewrightError

__all__ = ["FAULT", "INTERRUPTED", "NOT_OK", "NOT_SUPPORTED", "USAGE", "Failure", "LostOutput", "describe"]

NOT_OK = 1
USAGE = 2
NOT_SUPPORTED = 3
FAULT = 70
INTERRUPTED = 130

# Some versions of typer bundle click and others import it; the base class of typer's own errors is the right one in both cases.
_CLICK_ERROR = cast(type[typer.BadParameter], typer.BadParameter.__mro__[2])


class LostOutput(OSError):  # noqa: N818 (named for what is lost)
    """A result could not be printed; ``strerror`` is the whole sentence."""


@dataclass(frozen=True)
class Failure:
    """Why a command failed.

    Parameters
    ----------
    kind
        Name of the exception.
    message
        What went wrong and what to do, in one sentence.
    code
        Exit code.
    """

    kind: str
    message: str
    code: int


def describe(error: BaseException) -> Failure:
    """Return the failure that an exception stands for."""
    kind = type(error).__name__
    if isinstance(error, KeyboardInterrupt):
        message = (
            "interrupted; no partial output is left, and running the same command again restarts or resumes the work"
        )
        return Failure("Interrupted", message, INTERRUPTED)
    if isinstance(error, CheckFailed):
        return Failure(kind, _sentence(error), NOT_OK)
    if isinstance(error, NotSupportedError):
        return Failure(kind, _sentence(error), NOT_SUPPORTED)
    if isinstance(error, TilewrightError):
        return Failure(kind, _sentence(error), USAGE)
    if isinstance(error, _CLICK_ERROR):
        message = " ".join(error.format_message().split()).rstrip(".")
        return Failure("UsageError", f"{message}; try --help", USAGE)
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("tilewright."):
        package = error.name.partition(".")[0]
        message = f"this needs the Python package {package!r}, which is not installed; run `tilewright doctor` to see what to install"
        return Failure(kind, message, NOT_SUPPORTED)
    if isinstance(error, MemoryError):
        return Failure(
            kind, "out of memory; use a smaller model or batch (--dry-run estimates the memory needed)", USAGE
        )
    if isinstance(error, LostOutput):
        return Failure(kind, str(error.strerror), USAGE)
    if isinstance(error, OSError):
        return Failure(kind, _system(error), USAGE)
    message = f"{kind}: {_sentence(error)}; this is a bug in tilewright: run `tilewright --debug ...` for the traceback"
    return Failure(kind, message, FAULT)


def _system(error: OSError) -> str:
    """Return a sentence for an error of the operating system."""
    if error.errno is None:
        return _sentence(error)
    place = f": {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full{place}; no partial output was kept: free some space and run the same command again"
    return f"{(error.strerror or 'system error').lower()}{place}"


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
