"""`tilewright export`: write a packed model for programs without Tilewright."""

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from .options import Inputs, Json, Quiet, Shape, one_of, shape_of
from .output import emit, stdout_kept_clean
from .progress import progress

__all__ = ["command"]


def command(
    path: Annotated[Path, typer.Argument(help="Folder of a packed checkpoint.")],
    to: Annotated[
        str,
        typer.Option(
            help="dense: ordinary tensors with zeros, which any program can read; onnx: a model for ONNX Runtime and others."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")],
    model: Annotated[
        str | None, typer.Option(help="module:callable that builds the module, for ONNX of a plain torch module.")
    ] = None,
    inputs: Inputs = None,
    shape: Shape = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Write a packed checkpoint as dense tensors with zeros or as ONNX: the same outputs, without Tilewright."""
    kind = cast(Literal["dense", "onnx"], one_of(to, "--to", ("dense", "onnx")))
    sides = shape_of(shape)
    with stdout_kept_clean(), progress(quiet) as display:
        from .. import jobs

        report = jobs.export(
            str(path),
            output,
            kind,
            model=model,
            inputs=None if inputs is None else str(inputs),
            shape=sides,
            progress=display,
        )
    return emit(report, as_json=as_json)
