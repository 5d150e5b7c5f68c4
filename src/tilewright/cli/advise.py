"""`tilewright advise`: choose a pattern for each layer on a target, before any training."""

import re
from typing import Annotated

import typer

from .options import Json, checked_pattern
from .output import emit, stdout_kept_clean

__all__ = ["command"]

_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_BYTES = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1024.0, "MiB": 1024.0**2, "GiB": 1024.0**3}


def command(
    model: Annotated[str, typer.Argument(help="A dense model: a folder, or package:NAME for one inside a package.")],
    target: Annotated[
        str,
        typer.Option(
            help="cpu measures this machine; an accelerator, as for simulate, is modelled: a100, s4, sta, ..."
        ),
    ] = "cpu",
    latency: Annotated[str | None, typer.Option(help="Maximum time of a call of the whole model, such as 5ms.")] = None,
    size: Annotated[str | None, typer.Option(help="Maximum size of all parameters, such as 20MB.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Batch size.")] = 1,
    sequence: Annotated[
        int | None, typer.Option(min=1, help="Tokens per sample. Default: 128, or the maximum of the model if smaller.")
    ] = None,
    patterns: Annotated[
        str | None, typer.Option(help="Comma-separated patterns to choose from. Default: those that suit the target.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Data type, such as int8 or float16. Default: the accelerator's first.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(help="Name or expression of layers to leave dense; may be repeated.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Number of threads if the target is cpu.")] = 1,
    as_json: Json = False,
) -> int:
    """Choose a pattern for every layer that meets a latency or a size with the least predicted loss."""
    if latency is None and size is None:
        raise typer.BadParameter("give a limit: --latency 5ms, --size 20MB, or both")
    seconds = None if latency is None else _amount(latency, "--latency", _SECONDS)
    limit = None if size is None else _amount(size, "--size", _BYTES)
    candidates = [checked_pattern(text.strip()) for text in (patterns or "").split(",") if text.strip()]
    with stdout_kept_clean():
        from ..advice import advise
        from ..jobs import model_folder

        if target == "cpu":
            import torch

            torch.set_num_threads(threads)
        report = advise(
            model_folder(model),
            target,
            latency=seconds,
            size=limit,
            batch=batch,
            sequence=sequence,
            patterns=candidates,
            dtype=dtype,
            ignore=ignore or (),
        )
    return emit(report, as_json=as_json)


def _amount(text: str, option: str, units: dict[str, float]) -> float:
    """Parse a number with a unit."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]+)\s*", text)
    if match is None or match[2] not in units or float(match[1]) == 0:
        raise typer.BadParameter(f"{option} takes a number above 0 with a unit ({', '.join(units)}), got {text!r}")
    return float(match[1]) * units[match[2]]
