"""The `tilewright` command: its verbs, and the handling of every error."""

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
    help="Structured sparsity for neural networks: models that are smaller on disk and faster to run.",
    epilog="Exit codes: 0 success, 1 a check failed, 2 wrong usage or input, 3 not supported here, 70 internal error, 130 interrupted.",
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
    pass  # --version is handled by its callback, and --debug by main, which also sees parsing errors


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments
        Arguments after the program's name. Default: those of this process.
    """
    open_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    # The libraries' own progress bars would break ours and fill log files.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        code = app(words, prog_name="tilewright", standalone_mode=False)
    except typer.Exit as e:
        code = e.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except (BrokenPipeError, SystemExit):  # raised by typer when the reader of its help closes the pipe
        drop_stdout()
        code = 0
    except Exception as e:
        if "--debug" in words:
            traceback.print_exc()
        flush_stdout()
        return emit_error(describe(e), as_json="--json" in words)
    flush_stdout()
    if code == 130:  # typer turns Ctrl-C into this code without a message
        return emit_error(describe(KeyboardInterrupt()), as_json="--json" in words)
    return code if isinstance(code, int) else 0
