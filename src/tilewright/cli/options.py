"""Options that several verbs share, and lists written with commas."""

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

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
Inputs = Annotated[
    Path | None,
    typer.Option(
        help="File with inputs, items first: .npz, .npy or .safetensors, an array for each input of the model."
    ),
]
Shape = Annotated[
    str | None,
    typer.Option(help="Shape of one input of a plain module, such as 3,32,32; random numbers are drawn then."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and do nothing.")]


def whole_numbers(text: str, option: str) -> tuple[int, ...]:
    """Read ``1,8,32``."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise typer.BadParameter(f"{option} takes whole numbers from 1 with commas, such as 1,8,32; got {text!r}")
    return numbers


def shape_of(text: str | None) -> tuple[int, ...] | None:
    """Read ``3,32,32``."""
    return None if text is None else whole_numbers(text, "--shape")


def one_of(text: str, option: str, known: tuple[str, ...]) -> str:
    """Read one of the known words."""
    if text not in known:
        raise typer.BadParameter(unknown(f"{option}", text, known))
    return text


def words(text: str, option: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Read ``torch,openvino``, each one of the known words."""
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    strange = [word for word in found if word not in known]
    if strange or not found:
        wrong = ", ".join(map(repr, strange)) or repr(text)
        raise typer.BadParameter(f"{option} takes any of {', '.join(known)} with commas; got {wrong}")
    return found


def checked_pattern(text: str) -> str:
    """Refuse a pattern that does not exist before anything heavy is loaded."""
    parse(text)
    return text
