"""The labs on the real cluster: they pass, and it is proved that they cannot be fooled."""

from __future__ import annotations

import sys
from pathlib import Path

from junitparser import JUnitXml

from labctl import process
from labctl.lab.engine import loader
from labctl.lab.instance import PLAIN
from labctl.lab.labels import INSTANCE, LAB

from .conftest import COMMAND_SECONDS, CONFIG, Labctl

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


def test_every_lab_is_proved(labctl: Labctl, cluster: str) -> None:
    """All of them side by side: every check and statement fails untouched, holds, and fails under its sabotage
    or its placebo; and no instance of the proof is left."""
    proof = labctl.json("lab", "prove", "--all", "--strict", "--name", cluster, timeout=2 * COMMAND_SECONDS)
    unproved = [
        f"lab {lab['number']}: {check['title']}: {check['actual']}"
        for lab in proof["labs"]
        for check in lab["checks"]
        if check["status"] != "PASS"
    ]
    assert not unproved
    assert {lab["number"]: lab["status"] for lab in proof["labs"]} == {lab.number: "PASS" for lab in LABS}
    for lab in LABS:
        proved = {
            check["id"] for one in proof["labs"] if one["number"] == lab.number for check in one["checks"]
        }
        for name in loader.load(lab).statements:
            claims = {claim.removeprefix(f"{name}-") for claim in proved if claim.startswith(f"{name}-")}
            assert claims - {"untouched"}, f"lab {lab.number}: nothing was seen to break {name}"
    others = f"--selector={LAB},{INSTANCE}!={PLAIN}"
    left = labctl("kubectl", "--name", cluster, "--", "get", "namespaces", "--output=name", others).stdout
    assert not left.split()


def test_labs_run_side_by_side_from_two_shells_and_the_same_lab_does_not(
    labctl: Labctl, cluster: str, tmp_path: Path
) -> None:
    run = f"{sys.executable} -m labctl lab run --name {cluster}"
    script = (
        f"{run} 9 >a 2>&1 & a=$!; {run} 15 >b 2>&1 & b=$!; {run} 9 >c 2>&1; c=$?;"
        " wait $a; a=$?; wait $b; echo $a $? $c"
    )
    codes = process.run(["sh", "-c", script], timeout=300, cwd=tmp_path).stdout.split()
    said = "".join((tmp_path / name).read_text() for name in "abc")
    assert codes[1] == "0", said
    assert sorted((codes[0], codes[2])) == ["0", "6"], said
    assert "lab 9" in said


def test_a_lab_verifies_from_another_process(labctl: Labctl, cluster: str) -> None:
    labctl("lab", "run", "9", "--name", cluster)
    result = labctl.json("lab", "verify", "9", "--name", cluster)
    assert result["labs"][0]["status"] == "PASS"


def test_reset_leaves_nothing(labctl: Labctl, cluster: str) -> None:
    labctl("lab", "reset", "--all", "--name", cluster)
    left = labctl("kubectl", "--name", cluster, "--", "get", "namespaces", "--output=name").stdout
    assert not [name for name in left.split() if name.startswith(("namespace/lab", "namespace/labctl-"))]
