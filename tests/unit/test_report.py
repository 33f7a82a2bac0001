"""One model, five formats: they must agree, survive hostile text, and keep their shape."""

from __future__ import annotations

import io
import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped, TestSuite
from markdown_it import MarkdownIt
from rich.console import Console as RichConsole

from labctl import shown
from labctl.console import JSON_BYTES, JSON_TEXT
from labctl.errors import DockerUnreachable, Interrupted, ProofFailed, UsageError, WriteFailed
from labctl.lab.results import CheckResult, LabResult, RunResult, Status
from labctl.recorder import StepRecord
from labctl.report import data, html, junit, markdown, text
from labctl.report import model as models
from labctl.report.files import Files
from labctl.report.model import PhaseOutcome, RunPhase, RunReport

HOSTILE = "<script>alert(1)</script> | [x](http://e) `c` \x1b[31m\x00 </testcase> &amp; ￿ @all"


def check(status: Status, actual: str = "", title: str = "The answer comes") -> CheckResult:
    return CheckResult("answer", title, status, expected="42", actual=actual, hint="look again", seconds=1.25)


def lab(number: int, *checks: CheckResult, status: Status = Status.PASS, reason: str = "") -> LabResult:
    return LabResult(number, "topic", f"Topic {number}", status, checks, reason, seconds=3.5)


def phases(**failures: models.Failure) -> tuple[RunPhase, ...]:
    made = []
    for name in ("doctor", "up", "proof", "labs", "down"):
        failure = failures.get(name)
        outcome = PhaseOutcome.BROKEN if failure else PhaseOutcome.OK
        made.append(RunPhase(name, outcome, 1.5, "said", (StepRecord("A step", 1.0),), failure))
    return tuple(made)


def report(run: RunResult | None = None, **changes: Any) -> RunReport:
    made = RunReport(
        cluster="three-nodes",
        labctl="0.1.0",
        started="2026-11-24T07:00:00+00:00",
        phases=phases(),
        seconds=99.0,
        proof=(CheckResult("dns", "DNS answers on every node", Status.PASS),),
        run=run or RunResult("three-nodes", "n0nce", "v1.37.2", (lab(9, check(Status.PASS)),), 3.5),
        facts={"kubernetes": "v1.37.2"},
    )
    return replace(made, **changes)


def bad_run(**changes: Any) -> RunResult:
    labs = (
        lab(9, check(Status.PASS)),
        lab(10, check(Status.FAIL, actual=HOSTILE, title=HOSTILE), status=Status.FAIL),
        lab(11, check(Status.SKIP), status=Status.ERROR, reason="node w2 does not run"),
        lab(12, status=Status.SKIP, reason="needs a load balancer"),
    )
    return replace(RunResult("three-nodes", "n0nce", "v1.37.2", labs, 14.0), **changes)


def drawn(report: RunReport) -> str:
    console = RichConsole(width=100, no_color=True, record=True, file=io.StringIO())
    console.print(text.report(report))
    return console.export_text()


# --- exit codes ---------------------------------------------------------------


def failure(error: Any) -> models.Failure:
    return models.Failure.of(error)


def test_everything_proven_is_0() -> None:
    assert report().exit_code == 0
    assert report().passed


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (report(run=RunResult("c", "n", "v", (lab(9, check(Status.FAIL), status=Status.FAIL),))), 1),
        (report(run=bad_run()), 4),
        (report(run=RunResult("c", "n", "v", (lab(9, check(Status.SKIP), status=Status.SKIP),))), 9),
        (report(phases=phases(doctor=failure(DockerUnreachable("no docker")))), 3),
        (report(phases=phases(proof=failure(ProofFailed("dns")))), 4),
        (report(phases=phases(down=failure(Interrupted(signal_number=15)))), 143),
        (report(phases=(RunPhase("proof", PhaseOutcome.FAILED),)), 4),
        (RunReport("c", "0", "now", phases=(RunPhase("up", PhaseOutcome.OK),)), 9),
    ],
)
def test_the_exit_code_tells_what_went_wrong(made: RunReport, code: int) -> None:
    assert made.exit_code == code
    assert not made.passed
    assert "not proven" in models.verdict(made)


def test_a_failed_lab_is_not_hidden_by_a_failed_clean_up_after_it() -> None:
    run = RunResult("c", "n", "v", (lab(9, check(Status.FAIL), status=Status.FAIL),))
    assert report(run=run, phases=phases(down=failure(ProofFailed("left over")))).exit_code == 1


def test_an_interrupt_outweighs_a_failed_lab() -> None:
    run = RunResult("c", "n", "v", (lab(9, check(Status.FAIL), status=Status.FAIL),))
    assert report(run=run, phases=phases(down=failure(Interrupted()))).exit_code == 130


# --- JSON ---------------------------------------------------------------------


def keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: keys(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [keys(value[0])] if value else []
    return None


def test_the_json_keys_are_pinned() -> None:
    step = {"title": None, "seconds": None, "ok": None, "result": None}
    broken = {"id": None, "exit_code": None, "what": None, "why": None, "next_step": None, "details": None}
    phase = {"name": None, "outcome": None, "seconds": None, "said": None, "steps": [step], "failure": broken}
    names = ("id", "title", "status", "expected", "actual", "hint", "seconds")
    checks = [dict.fromkeys(names)]
    a_lab = dict.fromkeys(("number", "slug", "title", "status"))
    assert keys(data.as_json(report(phases=phases(doctor=failure(DockerUnreachable("x")))))) == {
        "schema": None,
        "exit_code": None,
        "verdict": None,
        "cluster": None,
        "labctl": None,
        "started": None,
        "seconds": None,
        "facts": {"kubernetes": None},
        "phases": [phase],
        "proof": {"totals": None, "checks": checks},
        "run": {
            "cluster": None,
            "nonce": None,
            "kubernetes": None,
            "labs": [{**a_lab, "checks": checks, "reason": None, "seconds": None, "leftovers": []}],
            "seconds": None,
            "exit_code": None,
            "on_record": None,
        },
        "bundle": None,
        "kept": None,
    }


def test_json_is_json() -> None:
    again = json.loads(json.dumps(data.as_json(report(run=bad_run()))))
    assert again["exit_code"] == 4
    assert again["run"]["labs"][1]["checks"][0]["actual"] == HOSTILE
    assert again["phases"][0]["outcome"] == "ok"


# --- JUnit --------------------------------------------------------------------


def parsed(report: RunReport) -> JUnitXml:
    return JUnitXml.fromstring(junit.text(report).encode())


def properties(suite: TestSuite) -> dict[str, str]:
    found: Any = suite.properties()  # type: ignore[no-untyped-call]  # junitparser leaves it unannotated
    return {one.name: one.value for one in found}


def test_a_junit_document_has_a_suite_for_the_phases_the_proof_and_each_lab() -> None:
    suites = {suite.name: suite for suite in parsed(report(run=bad_run(), bundle="/b"))}
    assert list(suites) == ["labctl.phases", "labctl.proof", *(f"lab.{n:02d}_topic" for n in (9, 10, 11, 12))]
    assert properties(suites["labctl.phases"])["bundle"] == "/b"
    assert properties(suites["lab.09_topic"])["nonce"] == "n0nce"


def test_fail_is_a_failure_error_an_error_and_skip_is_skipped() -> None:
    document = parsed(report(run=bad_run()))
    assert (document.failures, document.errors, document.skipped) == (1, 1, 2)
    suites = {suite.name: list(suite) for suite in document}
    assert suites["lab.09_topic"][0].is_passed
    [failed] = suites["lab.10_topic"][0].result
    assert isinstance(failed, Failure)
    assert "expected: 42" in (failed.text or "")
    assert "hint:     look again" in (failed.text or "")
    skipped, whole = suites["lab.11_topic"]
    assert isinstance(skipped.result[0], Skipped)
    assert isinstance(whole.result[0], Error)
    assert whole.result[0].message == "node w2 does not run"
    assert isinstance(suites["lab.12_topic"][0].result[0], Skipped)


def test_a_broken_phase_is_an_error_that_says_what_to_do() -> None:
    broken = failure(DockerUnreachable("no docker", why="refused", next_step="start it", details="log"))
    document = parsed(report(phases=phases(doctor=broken), run=None))
    case = next(iter(next(iter(document))))
    [error] = case.result
    assert isinstance(error, Error)
    assert (error.message, error.text) == ("no docker", "no docker\nrefused\nnext: start it\nlog")
    assert "A step" in (case.system_out or "")


def test_junit_carries_what_xml_cannot() -> None:
    assert "\x1b" not in junit.text(report(run=bad_run()))
    [failed] = next(
        iter(case for suite in parsed(report(run=bad_run())) for case in suite if case.is_failure)
    ).result
    assert failed.message is not None
    assert failed.message.startswith("<script>alert(1)</script> | [x](http://e)")


# --- for people ---------------------------------------------------------------


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.links: list[str] = []

        self.texts: list[str] = []
        self.code: list[str] = []
        self._inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self._inside.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        literal = {"code", "pre"} & set(self._inside)
        (self.code if literal else self.texts).append(data)


def test_html_is_one_file_without_anything_from_elsewhere() -> None:
    page = html.text(
        report(run=bad_run(), phases=phases(doctor=failure(DockerUnreachable(HOSTILE, details=HOSTILE))))
    )
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.seen
    assert tags.links == []
    assert "http" not in page.replace("http-equiv", "").replace("http://e", "")
    assert "Topic 10" in page
    assert "look again" in page


def rendered(page: str) -> Tags:
    """The tags and links of a Markdown page, as a site would make them that links all it can."""
    tags = Tags()
    tags.feed(MarkdownIt("commonmark", {"html": True}).enable("table").render(page))
    return tags


def test_markdown_escapes_what_came_out_of_the_cluster() -> None:
    broken = failure(DockerUnreachable(HOSTILE, details=HOSTILE))
    page = markdown.text(report(run=bad_run(), phases=phases(doctor=broken), bundle=HOSTILE))
    tags = rendered(page)
    assert not {"script", "a", "img"} & set(tags.seen)
    bare = "".join(tags.texts)
    assert not re.search(r"://|@\w|#\w|www\.", bare), bare
    assert "http://e" in "".join(tags.code)
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in rows if "Topic" in line}) == 1


FLOOD = "x" * 1_200_000


def flooded(labs: int = 1, checks: int = 1) -> RunReport:
    bad = check(Status.FAIL, actual=FLOOD)
    made = (lab(n, *([bad] * checks), status=Status.FAIL, reason=FLOOD) for n in range(labs))
    error = failure(DockerUnreachable(FLOOD, why=FLOOD, details=FLOOD))
    return report(run=RunResult("c", "n", "v", tuple(made)), phases=phases(doctor=error))


@pytest.mark.parametrize(
    ("draw", "most"),
    [
        (markdown.text, markdown.WHOLE),
        (junit.text, junit.WHOLE),
        (html.text, html.WHOLE),
        (drawn, 64 * 1024),
        (
            lambda made: shown.fitted(data.as_json(made), shown.as_json, text=JSON_TEXT, whole=JSON_BYTES),
            JSON_BYTES,
        ),
    ],
)
def test_every_format_has_a_bound_and_says_what_it_cut(draw: Any, most: int) -> None:
    page = draw(flooded())
    assert len(page.encode()) <= most
    assert "characters left out" in page


@pytest.mark.parametrize(
    ("draw", "most"),
    [(markdown.text, markdown.WHOLE), (junit.text, junit.WHOLE), (html.text, html.WHOLE)],
)
def test_many_long_texts_are_cut_shorter(draw: Any, most: int) -> None:
    page = draw(flooded(labs=20, checks=10))
    assert most / 50 < len(page.encode()) <= most
    assert page.count("characters left out") >= 200


def test_a_summary_that_cannot_hold_everything_says_how_much_it_leaves_out() -> None:
    bad = check(Status.FAIL, actual="no")
    labs = tuple(lab(n % 100, *([bad] * 100), status=Status.FAIL) for n in range(80))
    page = markdown.text(report(run=RunResult("c", "n", "v", labs)))
    assert len(page.encode()) <= markdown.WHOLE
    kept = page.count(": FAIL: The answer comes")
    left = re.search(r"(\d+) more section\(s\) left out", page)
    assert left
    assert 1000 < kept < 8000
    assert kept + int(left[1]) == 8000


def test_markdown_says_how_it_ended() -> None:
    assert markdown.text(report()).startswith("## ✅ labctl: three-nodes proven")
    assert "❌" in markdown.text(report(run=bad_run()))


def test_the_terminal_shows_what_does_not_hold_and_why() -> None:
    shown = drawn(report(run=bad_run(), bundle="/b", kept=True))
    for words in (
        "10 topic: FAIL",
        "expected: 42",
        "hint: look again",
        "node w2 does not run",
        "/b",
        "labctl down",
    ):
        assert words in shown
    assert "09 topic: " not in shown
    assert "not proven" in shown


def test_the_terminal_lists_everything_that_the_machine_lacks() -> None:
    lacks = "\n".join(f"check-{number}: missing" for number in range(50))
    error = DockerUnreachable("this machine is not ready", why="2 checks", next_step="cure it", details=lacks)
    shown = drawn(report(phases=phases(doctor=failure(error))))
    for words in (
        "doctor: this machine is not ready  [docker-unreachable]",
        "why: 2 checks",
        "next: cure it",
    ):
        assert words in shown
    assert "| check-49: missing" in shown
    assert "check-9: missing" not in shown


def test_the_terminal_does_not_read_markup_in_an_answer() -> None:
    run = RunResult("c", "n", "v", (lab(9, check(Status.FAIL, actual="[bold]x[/]"), status=Status.FAIL),))
    assert "actual: [bold]x[/]" in drawn(report(run=run))


@pytest.mark.parametrize("draw", [junit.text, html.text, markdown.text, drawn, data.as_json])
def test_a_run_that_reached_nothing_can_be_drawn(draw: Any) -> None:
    assert draw(RunReport("c", "0.1.0", "now", phases=()))


# --- files --------------------------------------------------------------------


def test_files_are_written_and_the_summary_is_appended_to(tmp_path: Path) -> None:
    files = Files(tmp_path / "new" / "r.xml", tmp_path / "r.html", tmp_path / "summary.md")
    (tmp_path / "summary.md").write_text("before\n")
    files.require_writable()
    files.write(report())
    assert JUnitXml.fromfile(str(tmp_path / "new" / "r.xml")).tests == 7
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "summary.md").read_text().startswith("before\n## ")
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["r.html", "summary.md"]


def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"r\.xml"):
        Files(junit=tmp_path / "file" / "r.xml").require_writable()


def test_what_is_no_plain_file_is_written_into_and_not_replaced(tmp_path: Path) -> None:
    real, link, pipe = tmp_path / "real", tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(real)
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        Files(junit=link, html=pipe).write(report())
    finally:
        os.close(reader)
    assert link.is_symlink()
    assert "<testsuites" in real.read_text()
    assert pipe.is_fifo()


def test_one_bad_file_does_not_cost_the_others(tmp_path: Path) -> None:
    (tmp_path / "r.xml").mkdir()
    with pytest.raises(WriteFailed, match=r"r\.xml"):
        Files(junit=tmp_path / "r.xml", html=tmp_path / "r.html").write(report())
    assert (tmp_path / "r.html").exists()
