"""Shared foundations: reports, records and the machine they were made on, digests, and atomic files."""

from .digest import digest
from .environment import machine, revision, versions
from .files import BusyError, append_line, clear, flush, locked, replacing, staging, write_whole
from .progress import Progress, SilentProgress
from .record import Record, TornRecordWarning, read_records, write_record
from .report import Report, cell, json_text, printable

__all__ = [
    "BusyError",
    "Progress",
    "Record",
    "Report",
    "SilentProgress",
    "TornRecordWarning",
    "append_line",
    "cell",
    "clear",
    "digest",
    "flush",
    "json_text",
    "locked",
    "machine",
    "printable",
    "read_records",
    "replacing",
    "revision",
    "staging",
    "versions",
    "write_record",
    "write_whole",
]
