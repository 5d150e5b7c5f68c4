"""`tilewright bench`: time a packed model against dense engines on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from .options import DryRun, Inputs, Json, Quiet, Shape, shape_of, whole_numbers, words
from .output import emit, stdout_kept_clean
from .progress import progress

__all__ = ["command"]

_PEERS = ("torch", "onnxruntime", "openvino")


def command(
    path: Annotated[Path, typer.Argument(help="Folder of a packed checkpoint.")],
    model: Annotated[
        str | None,
        typer.Option(help="module:callable that builds the module, for a checkpoint of a plain torch module."),
    ] = None,
    sentences: Annotated[
        str, typer.Option(help="Comma-separated batch sizes, in sentences or whatever the model takes.")
    ] = "1,8,32",
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Threads per engine.")] = 1,
    peers: Annotated[str, typer.Option(help="Comma-separated dense engines to compare with.")] = ",".join(_PEERS),
    inputs: Inputs = None,
    shape: Shape = None,
    quick: Annotated[bool, typer.Option("--quick", help="Take fewer samples, for a first impression.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Time a packed model against dense engines that run the same weights, with every output checked first."""
    batches = whole_numbers(sentences, "--sentences")
    sides = shape_of(shape)
    engines = words(peers, "--peers", _PEERS)
    with stdout_kept_clean(), progress(quiet or dry_run) as display:
        from .. import jobs

        if dry_run:
            report = jobs.forecast_bench(str(path), sentences=batches, threads=threads, peers=engines, quick=quick)
        else:
            report = jobs.bench(
                str(path),
                model=model,
                sentences=batches,
                threads=threads,
                peers=engines,
                quick=quick,
                inputs=None if inputs is None else str(inputs),
                shape=sides,
                progress=display,
            )
    return emit(report, as_json=as_json)
