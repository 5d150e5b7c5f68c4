"""Files that are whole or not there, lines that are appended for good, and folders that one process at a time writes to.

Every file and line this package keeps is written through this room.
"""

from .lines import append_line
from .locks import BusyError, locked
from .staging import clear, flush, staging
from .whole import replacing, write_whole

__all__ = ["BusyError", "append_line", "clear", "flush", "locked", "replacing", "staging", "write_whole"]
