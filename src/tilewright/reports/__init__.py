"""Records of what was measured, and the report made from them."""

from .checks import Check
from .environment import machine, revision, versions
from .progress import Progress, SilentProgress
from .records import Record, TornRecordWarning, read_records, write_record

__all__ = [
    "Check",
    "Progress",
    "Record",
    "SilentProgress",
    "TornRecordWarning",
    "machine",
    "read_records",
    "revision",
    "versions",
    "write_record",
]
