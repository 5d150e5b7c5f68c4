"""Options that several verbs share, and parsers of their values."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import unknown
from ..patterns import parse

__all__ = [
    "DryRun",
    "Inputs",
    "Json",
    "Quiet",
    "Shape",
    "checked_pattern",
    "one_of",
    "shape_of",
    "whole_numbers",
    "words",
]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress on stderr.")]
Inputs = Annotated[
    Path | None,
    typer.Option(
        help="File of inputs (.npz, .npy or .safetensors): one array per input of the model, items along the first axis."
    ),
]
Shape = Annotated[
    str | None,
    typer.Option(help="Shape of one input of a plain module, such as 3,32,32, to generate random inputs."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Report what would happen, and do nothing.")]


def whole_numbers(text: str, option: str) -> tuple[int, ...]:
    """Parse a list such as ``1,8,32``."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise typer.BadParameter(f"{option} takes comma-separated positive integers, such as 1,8,32, got {text!r}")
    return numbers


def shape_of(text: str | None) -> tuple[int, ...] | None:
    """Parse a shape such as ``3,32,32``."""
    return None if text is None else whole_numbers(text, "--shape")


def one_of(text: str, option: str, known: tuple[str, ...]) -> str:
    """Return the text if it is one of the known words, else raise a usage error."""
    if text not in known:
        raise typer.BadParameter(unknown(f"{option}", text, known))
    return text


def words(text: str, option: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Parse a list of known words, such as ``torch,openvino``."""
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    invalid = [name for name in names if name not in known]
    if invalid or not names:
        wrong = ", ".join(map(repr, invalid)) or repr(text)
        raise typer.BadParameter(f"{option} takes a comma-separated list of {', '.join(known)}, got {wrong}")
    return names


def checked_pattern(text: str) -> str:
    """Return the text if it is a valid pattern; otherwise fail before anything heavy is loaded."""
    parse(text)
    return text
