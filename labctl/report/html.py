"""The report as one HTML file that needs nothing else: no script, no style sheet, no font from elsewhere."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from labctl.report.model import RunReport, all_checks, totals, verdict
from labctl.shown import clean, fitted

TEXT, WHOLE = 64 * 1024, 8 * 1024 * 1024
"""Characters of one text, bytes of the page: what a browser opens without effort."""


def text(report: RunReport) -> str:
    """The whole run as a page. Everything that came out of a cluster is cleaned and escaped.

    Texts are cut to `TEXT` characters, and shorter where the page would be larger than `WHOLE` bytes.
    """
    return fitted(report, _page, text=TEXT, whole=WHOLE)


def _page(report: RunReport) -> str:
    return _template().render(
        report=report, verdict=verdict(report), totals=totals, all_checks=all_checks(report.run)
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("labctl.report", "templates"),
        autoescape=True,
        finalize=_cleaned,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")


def _cleaned(value: Any) -> Any:
    return clean(value) if type(value) is str else value
