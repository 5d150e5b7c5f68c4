"""Atomic files, durable appended lines, and locks that let one process at a time write to a folder.

Every file this package keeps is written through these functions.
"""

from .lines import append_line
from .locks import BusyError, locked
from .staging import clear, flush, staging
from .whole import replacing, write_whole

__all__ = ["BusyError", "append_line", "clear", "flush", "locked", "replacing", "staging", "write_whole"]
