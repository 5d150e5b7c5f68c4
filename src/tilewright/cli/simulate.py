"""`tilewright simulate`: a model on accelerators that are models themselves."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from ..records import json_text
from .options import Json, checked_pattern, whole_numbers
from .output import emit, emit_text, stdout_kept_clean

if TYPE_CHECKING:
    from ..hardware import Comparison

__all__ = ["command"]


def command(
    path: Annotated[
        Path | None, typer.Argument(help="Folder of a checkpoint, packed or dense, or package:NAME.")
    ] = None,
    arch: Annotated[
        str,
        typer.Option(
            help="Accelerators, with commas: a100, rtx3090, t4, v100, s4, s10, s30, s40, sta; NAME-dense has no sparse hardware."
        ),
    ] = "a100,s4,sta",
    batch: Annotated[str, typer.Option(help="Sizes of the batches, with commas.")] = "1",
    network: Annotated[
        str | None, typer.Option(help="Instead of a folder: bert-base, bert-large, gpt2, resnet50 or vit-base, dense.")
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help="As if every weight that can take it were pruned to this, such as 2:4.")
    ] = None,
    sequence: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a sample; 128, or what the model takes, otherwise.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="Such as int8 or float16; each machine's first otherwise.")] = None,
    fidelity: Annotated[str, typer.Option(help="How exact: roofline, analytical or tiles.")] = "tiles",
    layers: Annotated[
        bool, typer.Option("--layers", help="Also a table for each accelerator, operation by operation.")
    ] = False,
    timeline: Annotated[
        Path | None, typer.Option(help="Write what ran when to this JSON file, for Perfetto or Chrome.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with pictures and assumptions to this file.")] = None,
    as_json: Json = False,
) -> int:
    """Say how long a model takes on accelerators, where the cycles go, and what that rests on."""
    batches = whole_numbers(batch, "--batch")
    archs = [name.strip() for name in arch.split(",") if name.strip()]
    if (path is None) == (network is None):
        raise typer.BadParameter("give the folder of a model or --network NAME, one of the two")
    if not archs:
        raise typer.BadParameter(f"--arch takes names of accelerators with commas; got {arch!r}")
    if pattern is not None:
        checked_pattern(pattern)
    with stdout_kept_clean():
        from ..hardware import compare
        from ..pages import simulation_page
        from ..records import write_whole

        level = cast(Literal["roofline", "analytical", "tiles"], fidelity)
        found = compare(
            network or _folder(path), archs, batches, sequence=sequence, fidelity=level, dtype=dtype, pattern=pattern
        )
        if timeline is not None:
            write_whole(timeline, json.dumps(_trace(found)))
        if html is not None:
            again = _command(
                path=path, network=network, arch=arch, batch=batch, pattern=pattern, sequence=sequence, dtype=dtype,
                fidelity=fidelity, html=html,
            )  # fmt: skip
            write_whole(html, simulation_page(found, command=again, pattern=pattern))
    if as_json:
        body = json.loads(found.report().to_json())
        if layers:
            body["runs"] = [json.loads(run.table().to_json()) for run in found.runs]
        emit_text(json_text(body))
        return 0
    if layers:
        for run in found.runs:
            emit(run.table(), as_json=False)
            emit_text("")
    return emit(found.report(), as_json=False)


def _folder(path: Path | None) -> str:
    from ..jobs import model_folder

    text = str(path)
    return str(model_folder(text)) if text.startswith("package:") else text


def _trace(found: "Comparison") -> dict[str, Any]:
    """Return all runs in one trace, a process each."""
    traces = [run.timeline() for run in found.runs]
    events = [{**event, "pid": pid} for pid, trace in enumerate(traces, 1) for event in trace["traceEvents"]]
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _command(**options: object) -> str:
    """Return what to type to make the page again, without the folders of this machine."""
    words = ["tilewright", "simulate"]
    for name, value in options.items():
        if value is not None:
            text = value.name if isinstance(value, Path) else str(value)
            words += [text] if name == "path" else [f"--{name}", text]
    return shlex.join(words)
