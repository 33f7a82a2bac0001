"""The labs on the real cluster: they pass, and it is proved that they cannot be fooled."""

from __future__ import annotations

from pathlib import Path

import pytest
from junitparser import JUnitXml

from labctl.lab.engine import loader
from labctl.lab.engine.loader import LabFile

from .conftest import CONFIG, Labctl

LABS = loader.discover(Path(__file__).resolve().parents[2] / "labs")


def test_the_labs_of_this_release_are_there() -> None:
    assert {lab.number for lab in LABS} >= set(range(9, 16))


def test_every_lab_passes_and_the_reports_say_so(labctl: Labctl, cluster: str, tmp_path: Path) -> None:
    files = ["--junit", str(tmp_path / "labs.xml"), "--html", str(tmp_path / "labs.html")]
    report = labctl.json("ci", CONFIG, "--name", cluster, "--strict", *files)
    assert {lab["number"]: lab["status"] for lab in report["run"]["labs"]} == {
        lab.number: "PASS" for lab in LABS
    }
    assert report["kept"] is True
    document = JUnitXml.fromfile(str(tmp_path / "labs.xml"))
    assert (document.failures, document.errors) == (0, 0)
    suites = {suite.name: suite.tests for suite in document}
    for lab in report["run"]["labs"]:
        assert suites[f"lab.{lab['number']:02d}_{lab['slug']}"] == len(lab["checks"])
    assert (tmp_path / "labs.html").stat().st_size > 10_000


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.name)
def test_the_lab_is_proved(labctl: Labctl, cluster: str, lab: LabFile) -> None:
    """Every check fails before the steps, holds after them, and fails under its sabotage."""
    labctl("lab", "prove", str(lab.number), "--name", cluster)


def test_a_lab_verifies_from_another_process(labctl: Labctl, cluster: str) -> None:
    labctl("lab", "run", "9", "--name", cluster)
    result = labctl.json("lab", "verify", "9", "--name", cluster)
    assert result["labs"][0]["status"] == "PASS"


def test_reset_leaves_nothing(labctl: Labctl, cluster: str) -> None:
    labctl("lab", "reset", "--all", "--name", cluster)
    left = labctl("kubectl", "--name", cluster, "--", "get", "namespaces", "--output=name").stdout
    assert not [name for name in left.split() if name.startswith(("namespace/lab", "namespace/labctl-"))]
