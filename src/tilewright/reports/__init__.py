"""Records of what was measured, and the report made from them."""

from .checks import Check
from .doctor import doctor
from .environment import machine, revision, versions
from .html import render_report, write_report
from .progress import Progress, SilentProgress
from .records import Record, TornRecordWarning, read_records, write_record
from .simulated import roofline_svg, simulation_page, timeline_svg, waterfall_svg

__all__ = [
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
    "roofline_svg",
    "simulation_page",
    "timeline_svg",
    "versions",
    "waterfall_svg",
    "write_record",
    "write_report",
]
