"""The `tilewright` command: its verbs, and what becomes of everything that can go wrong."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from . import advise, bench, doctor, explain, export, prune, run, simulate, verify
from .faults import describe
from .output import drop_stdout, emit_error, emit_text, flush_stdout, open_streams

__all__ = ["app", "main"]

app = typer.Typer(
    name="tilewright",
    help="Structured sparsity for neural networks: prune once, really smaller, really faster.",
    epilog="Exit codes: 0 done, 1 a check failed, 2 wrong usage or input, 3 not supported here, 70 a fault of this program, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
for verb in (run, prune, verify, bench, explain, export, simulate, advise, doctor):
    app.command(verb.__name__.rpartition(".")[2])(verb.command)


def _version(asked: bool) -> None:
    if asked:
        from ..records import versions

        emit_text(f"tilewright {versions()['tilewright']}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    pass  # both are acted on elsewhere: the version by its callback, debugging by main, which sees errors of parsing too


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments
        Words after the program's name; those of this process when None.
    """
    open_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Progress is told in one voice: the libraries' own bars would tear ours apart, and fill log files.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        code = app(words, prog_name="tilewright", standalone_mode=False)
    except typer.Exit as e:
        code = e.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except (BrokenPipeError, SystemExit):  # typer's way out when whoever reads its help has seen enough
        drop_stdout()
        code = 0
    except Exception as e:
        if "--debug" in words:
            traceback.print_exc()
        flush_stdout()
        return emit_error(describe(e), as_json="--json" in words)
    flush_stdout()
    if code == 130:  # typer turns Ctrl-C into this code by itself, without a word
        return emit_error(describe(KeyboardInterrupt()), as_json="--json" in words)
    return code if isinstance(code, int) else 0
