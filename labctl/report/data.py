"""The report as JSON-able data. Its keys are part of labctl's interface; a test pins them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from labctl.lab.results import as_json as run_as_json
from labctl.report.model import SCHEMA, RunReport, totals, verdict


def as_json(report: RunReport) -> dict[str, Any]:
    """The whole report; ``run`` has the shape of `labctl lab run -o json`, or is null when no lab ran."""
    return {
        "schema": SCHEMA,
        "exit_code": report.exit_code,
        "verdict": verdict(report),
        "cluster": report.cluster,
        "labctl": report.labctl,
        "started": report.started,
        "seconds": round(report.seconds, 3),
        "facts": {name.replace(" ", "_"): value for name, value in report.facts.items()},
        "phases": [asdict(phase) for phase in report.phases],
        "proof": {"totals": totals(report.proof), "checks": [asdict(check) for check in report.proof]},
        "run": run_as_json(report.run) if report.run else None,
        "bundle": report.bundle,
        "kept": report.kept,
    }
