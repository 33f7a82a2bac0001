"""`labctl doctor` and `labctl host`: exit codes, one JSON document, and asking before anything changes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from labctl.cli.main import cli
from labctl.console import Console
from labctl.errors import DockerUnreachable, HostError, UsageError
from labctl.host import daemon, doctor, prepare
from labctl.host.finding import Finding, Needs
from labctl.host.prepare import Change
from labctl.progress import Progress

OK = Finding("memory", "memory", "ok", "16 GiB")
FAILED = Finding("docker", "docker daemon", "fail", "no answer", "start it", DockerUnreachable)


class Run:
    """One call of the command line, with what it wrote."""

    def __init__(self, *arguments: str) -> None:
        out, err = io.StringIO(), io.StringIO()
        self.result = cli.main(
            args=list(arguments), prog_name="labctl", standalone_mode=False, obj=Console(out=out, err=err)
        )
        self.out, self.err = out.getvalue(), err.getvalue()


@pytest.fixture
def findings(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    found = [OK]
    asked: Callable[..., tuple[Finding, ...]] = lambda needs, **_: tuple(found)  # noqa: E731
    monkeypatch.setattr(doctor, "examine", asked)
    return found


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the plan hold two changes; what is made of them is noted here."""
    done: list[str] = []

    def change(name: str) -> Change:
        def make(_: Progress) -> None:
            done.append(name)

        return Change(name, f"why {name}", False, make)

    monkeypatch.setattr(prepare, "plan", lambda needs, **_: [change("one"), change("two")])
    return done


def test_the_doctor_of_a_ready_machine(findings: list[Finding]) -> None:
    run = Run("doctor")
    assert run.result == 0
    assert "memory  16 GiB" in run.out
    assert "this machine is ready" in run.out


def test_the_doctor_shows_everything_and_ends_with_3(findings: list[Finding]) -> None:
    findings.append(FAILED)
    run = Run("doctor")
    assert run.result == 3
    assert "FAIL  docker" in run.out
    assert "cure: start it" in run.out
    assert "1 check(s) failed" in run.out


def test_the_doctor_in_json_is_one_document_also_on_failure(findings: list[Finding]) -> None:
    findings.append(FAILED)
    run = Run("doctor", "-o", "json")
    said = json.loads(run.out)
    assert run.result == 3
    assert said["ready"] is False
    assert set(said["findings"][0]) == {"id", "title", "status", "seen", "cure", "error"}
    assert said["findings"][1]["error"] == "docker-unreachable"


def test_the_doctor_is_told_the_size_of_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def examine(needs: Needs, *, skip: tuple[str, ...]) -> tuple[Finding, ...]:
        asked.update(needs=needs, skip=skip)
        return ()

    monkeypatch.setattr(doctor, "examine", examine)
    Run("doctor", "--workers", "7", "--control-planes", "3", "--source", "build", "--skip-check", "memory")
    needs = asked["needs"]
    assert (needs.control_planes, needs.workers, needs.source, asked["skip"]) == (3, 7, "build", ("memory",))
    assert needs.images


def test_prepare_on_a_ready_machine_does_nothing(
    findings: list[Finding], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "plan", lambda needs, **_: [])
    assert "nothing to do" in Run("host", "prepare").out


def test_prepare_asks_and_without_an_answer_changes_nothing(findings: list[Finding], made: list[str]) -> None:
    with pytest.raises(HostError) as caught:
        Run("host", "prepare")
    assert made == []
    assert "nothing was changed" in caught.value.what
    assert "--yes" in caught.value.next_step


def test_prepare_shows_what_it_changes(findings: list[Finding], made: list[str]) -> None:
    run = Run("host", "prepare", "--yes", "-o", "json")
    assert made == ["one", "two"]
    assert "one (why one)" in run.err
    said = json.loads(run.out)
    assert said == {
        "ready": True,
        "changes": [
            {"title": "one", "why": "why one", "root": False},
            {"title": "two", "why": "why two", "root": False},
        ],
    }


def test_prepare_changes_after_a_yes(
    findings: list[Finding], made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def confirm(_: Console, question: str) -> bool:
        asked.append(question)
        return True

    monkeypatch.setattr(Console, "confirm", confirm)
    Run("host", "prepare")
    assert made == ["one", "two"]
    assert asked == ["Make these 2 change(s)?"]


def test_prepare_fails_with_what_it_could_not_cure(findings: list[Finding], made: list[str]) -> None:
    findings.append(FAILED)
    with pytest.raises(DockerUnreachable) as caught:
        Run("host", "prepare", "--yes")
    assert caught.value.exit_code == 3


def test_prepare_changes_nothing_when_asked_to_skip_what_does_not_exist(
    findings: list[Finding], made: list[str]
) -> None:
    with pytest.raises(UsageError):
        Run("host", "prepare", "--yes", "--skip-check", "dokcer")
    assert made == []


@pytest.mark.parametrize("stopped", [None, 42])
def test_release_says_what_it_stopped(monkeypatch: pytest.MonkeyPatch, stopped: int | None) -> None:
    monkeypatch.setattr(daemon, "release", lambda **_: stopped)
    assert json.loads(Run("host", "release", "-o", "json").out) == {"stopped": stopped}
    assert Run("host", "release").out.strip()
