"""`tilewright advise`: which pattern each layer should take on a target, before anyone trains."""

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
        typer.Option(help="cpu measures this machine; or an accelerator, as for simulate: a100, s4, sta and so on."),
    ] = "cpu",
    latency: Annotated[str | None, typer.Option(help="Most time of a call of the whole model, such as 5ms.")] = None,
    size: Annotated[str | None, typer.Option(help="Most bytes of all parameters, such as 20MB.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Samples of a call.")] = 1,
    sequence: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a sample; 128, or what the model takes, otherwise.")
    ] = None,
    patterns: Annotated[
        str | None, typer.Option(help="Patterns to choose from, with commas; what suits the target otherwise.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Such as int8 or float16; the accelerator's first otherwise.")
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="Leave dense what this matches; may repeat.")] = None,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Threads, where the target is cpu.")] = 1,
    as_json: Json = False,
) -> int:
    """Choose a pattern for every layer so that a latency or a size is met at the least predicted loss."""
    if latency is None and size is None:
        raise typer.BadParameter("say what to meet: --latency 5ms, --size 20MB, or both")
    seconds = None if latency is None else _amount(latency, "--latency", _SECONDS)
    most = None if size is None else _amount(size, "--size", _BYTES)
    tried = [checked_pattern(text.strip()) for text in (patterns or "").split(",") if text.strip()]
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
            size=most,
            batch=batch,
            sequence=sequence,
            patterns=tried,
            dtype=dtype,
            ignore=ignore or (),
        )
    return emit(report, as_json=as_json)


def _amount(text: str, option: str, units: dict[str, float]) -> float:
    """Read a number with a unit."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]+)\s*", text)
    if found is None or found[2] not in units or float(found[1]) == 0:
        raise typer.BadParameter(f"{option} takes a number above 0 with a unit ({', '.join(units)}); got {text!r}")
    return float(found[1]) * units[found[2]]
