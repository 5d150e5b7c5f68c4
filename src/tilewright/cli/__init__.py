"""The command line: one file a verb. Libraries return and raise; only this room prints and exits."""

from .app import main

__all__ = ["main"]
