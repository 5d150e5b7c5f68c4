"""The command line, one file per verb. The rest of the package returns and raises; only this room prints and exits."""

from .app import main

__all__ = ["main"]
