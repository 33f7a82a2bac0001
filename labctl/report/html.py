"""The report as one HTML file that needs nothing else: no script, no style sheet, no font from elsewhere."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from labctl.report.model import RunReport, all_checks, totals, verdict


def text(report: RunReport) -> str:
    """The whole run as a page. Everything that came out of a cluster is escaped."""
    return _template().render(
        report=report, verdict=verdict(report), totals=totals, all_checks=all_checks(report.run)
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("labctl.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")
