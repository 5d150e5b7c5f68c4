"""Render a page from a template, with one style sheet, one script allowed by its hash, and nothing external."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from .wording import number

__all__ = ["render"]

_TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> str:
    """Render a template with values; a name that the template uses but `values` lacks is an error."""
    from markupsafe import Markup

    script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
    page: str = (
        _environment()
        .get_template(template)
        .render(
            script=Markup(script),
            script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            style=Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8")),
            number=number,
            **values,
        )
    )
    return page


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
