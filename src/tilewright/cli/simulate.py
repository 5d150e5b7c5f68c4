"""`tilewright simulate`: simulate a model on modelled accelerators."""

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
        Path | None, typer.Argument(help="Folder of a packed or dense checkpoint, or package:NAME.")
    ] = None,
    arch: Annotated[
        str,
        typer.Option(
            help="Comma-separated accelerators: a100, rtx3090, t4, v100, s4, s10, s30, s40, sta; NAME-dense has no sparse hardware."
        ),
    ] = "a100,s4,sta",
    batch: Annotated[str, typer.Option(help="Comma-separated batch sizes.")] = "1",
    network: Annotated[
        str | None,
        typer.Option(help="Dense network instead of a folder: bert-base, bert-large, gpt2, resnet50 or vit-base."),
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help="Simulate as if every weight that can take this pattern were pruned to it.")
    ] = None,
    sequence: Annotated[
        int | None, typer.Option(min=1, help="Tokens per sample. Default: 128, or the maximum of the model if smaller.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Data type, such as int8 or float16. Default: each accelerator's first.")
    ] = None,
    fidelity: Annotated[str, typer.Option(help="Level of detail: roofline, analytical or tiles.")] = "tiles",
    layers: Annotated[
        bool, typer.Option("--layers", help="Also print a table of all operations for each accelerator.")
    ] = False,
    timeline: Annotated[
        Path | None, typer.Option(help="JSON file to write a trace to, for Perfetto or Chrome.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="HTML file to write a report with charts and assumptions to.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Estimate how long a model takes on accelerators, where the cycles go, and on which numbers that rests."""
    batches = whole_numbers(batch, "--batch")
    archs = [name.strip() for name in arch.split(",") if name.strip()]
    if (path is None) == (network is None):
        raise typer.BadParameter("give either the folder of a model or --network NAME")
    if not archs:
        raise typer.BadParameter(f"--arch takes comma-separated names of accelerators, got {arch!r}")
    if pattern is not None:
        checked_pattern(pattern)
    with stdout_kept_clean():
        from ..hardware import compare
        from ..pages import simulation_page
        from ..records import write_whole

        level = cast(Literal["roofline", "analytical", "tiles"], fidelity)
        comparison = compare(
            network or _folder(path), archs, batches, sequence=sequence, fidelity=level, dtype=dtype, pattern=pattern
        )
        if timeline is not None:
            write_whole(timeline, json.dumps(_trace(comparison)))
        if html is not None:
            command_line = _command(
                path=path, network=network, arch=arch, batch=batch, pattern=pattern, sequence=sequence, dtype=dtype,
                fidelity=fidelity, html=html,
            )  # fmt: skip
            write_whole(html, simulation_page(comparison, command=command_line, pattern=pattern))
    if as_json:
        body = json.loads(comparison.report().to_json())
        if layers:
            body["runs"] = [json.loads(run.table().to_json()) for run in comparison.runs]
        emit_text(json_text(body))
        return 0
    if layers:
        for run in comparison.runs:
            emit(run.table(), as_json=False)
            emit_text("")
    return emit(comparison.report(), as_json=False)


def _folder(path: Path | None) -> str:
    from ..jobs import model_folder

    text = str(path)
    return str(model_folder(text)) if text.startswith("package:") else text


def _trace(comparison: "Comparison") -> dict[str, Any]:
    """Return all runs as one trace, one process per run."""
    traces = [run.timeline() for run in comparison.runs]
    events = [{**event, "pid": pid} for pid, trace in enumerate(traces, 1) for event in trace["traceEvents"]]
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _command(**options: object) -> str:
    """Return the command that makes the page again, without this machine's paths."""
    words = ["tilewright", "simulate"]
    for name, value in options.items():
        if value is not None:
            text = value.name if isinstance(value, Path) else str(value)
            words += [text] if name == "path" else [f"--{name}", text]
    return shlex.join(words)
