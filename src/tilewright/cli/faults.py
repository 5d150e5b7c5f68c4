"""What an exception means to the person at the terminal: one sentence and an exit code."""

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

# typer carries its own copy of click in some versions and imports it in others; its exported errors lead to the right one.
_CLICK_ERROR = cast(type[typer.BadParameter], typer.BadParameter.__mro__[2])


class LostOutput(OSError):  # noqa: N818 (what is lost is the matter)
    """A result that could not be printed; its text says so."""


@dataclass(frozen=True)
class Failure:
    """Why a command failed.

    Parameters
    ----------
    kind
        Name of the exception.
    message
        One sentence.
    code
        Exit code.
    """

    kind: str
    message: str
    code: int


def describe(error: BaseException) -> Failure:
    """Say what an exception means."""
    kind = type(error).__name__
    if isinstance(error, KeyboardInterrupt):
        message = "interrupted; no half-written output is left, and the same command starts or resumes the work"
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
        message = f"this needs the Python package {package!r}, which is not installed; `tilewright doctor` says what to install"
        return Failure(kind, message, NOT_SUPPORTED)
    if isinstance(error, MemoryError):
        return Failure(kind, "out of memory; a smaller model or batch needs less, and --dry-run says how much", USAGE)
    if isinstance(error, LostOutput):
        return Failure(kind, str(error.strerror), USAGE)
    if isinstance(error, OSError):
        return Failure(kind, _system(error), USAGE)
    message = (
        f"{kind}: {_sentence(error)}; this is a fault of tilewright: run `tilewright --debug ...` for the traceback"
    )
    return Failure(kind, message, FAULT)


def _system(error: OSError) -> str:
    """Put a refusal of the operating system into words."""
    if error.errno is None:
        return _sentence(error)
    place = f": {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full{place}; nothing half-written was kept, free some space and run the same command again"
    return f"{(error.strerror or 'system error').lower()}{place}"


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
