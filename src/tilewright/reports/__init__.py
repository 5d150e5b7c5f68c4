"""Records of what was measured, and the report made from them."""

from .about import About
from .checks import Check
from .doctor import doctor
from .environment import machine, revision, versions
from .html import render_report, write_report
from .progress import Progress, SilentProgress
from .records import Record, TornRecordWarning, read_records, write_record
from .simulated import simulation_page

__all__ = [
    "About",
    "Check",
    "Progress",
    "Record",
    "SilentProgress",
    "TornRecordWarning",
    "doctor",
    "machine",
    "read_records",
    "render_report",
    "revision",
    "simulation_page",
    "versions",
    "write_record",
    "write_report",
]
