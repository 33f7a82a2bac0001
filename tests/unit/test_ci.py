"""Every way a CI run can end, with stand-ins for the phases."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from labctl.ci.run import Keep, Run
from labctl.ci.stages import RealStages
from labctl.cli.main import cli
from labctl.cluster import lock, running, teardown
from labctl.cluster.spec import ClusterSpec
from labctl.cluster.up import bringup, context
from labctl.cluster.up.bringup import Up
from labctl.cluster.up.plan import Plan
from labctl.console import Console
from labctl.errors import (
    CleanupIncomplete,
    Conflict,
    DockerUnreachable,
    InfrastructureError,
    ProofFailed,
    Terminated,
    WriteFailed,
)
from labctl.lab.results import CheckResult, LabResult, RunResult, Status
from labctl.progress import Progress, Quiet
from labctl.report import data, text
from labctl.report.model import PhaseOutcome, RunReport
from tests.unit.fakes.fleet import Fleet

GOOD = CheckResult("c", "It holds", Status.PASS)
BAD = CheckResult("c", "It holds", Status.FAIL, "yes", "no")


def lab(number: int, check: CheckResult = GOOD) -> LabResult:
    return LabResult(number, "topic", "Topic", check.status, (check,))


@dataclass
class FakeStages:
    """Does nothing, remembers what it was asked for, and raises where it is told to."""

    cluster: str = "three-nodes"
    raises: dict[str, BaseException] = field(default_factory=dict)
    made: bool = True
    proofs: tuple[CheckResult, ...] = (GOOD,)
    results: tuple[LabResult, ...] = (lab(9), lab(10))
    asked: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)

    def _ask(self, name: str) -> None:
        self.asked.append(name)
        if name in self.raises:
            raise self.raises[name]

    def doctor(self) -> str:
        self._ask("doctor")
        return "18 checks"

    def up(self, progress: Progress) -> bool:
        with progress.step("Nodes") as step:
            self._ask("up")
            step.result("3 nodes")
        return self.made

    def proof(self, progress: Progress) -> tuple[CheckResult, ...]:
        self._ask("proof")
        return self.proofs

    def labs(self, progress: Progress, on_result: Callable[[LabResult], None]) -> RunResult:
        self.asked.append("labs")
        for one in self.results:
            if "labs" in self.raises and one is self.results[-1]:
                raise self.raises["labs"]
            on_result(one)
        return RunResult(self.cluster, "nonce", "v1.37.2", self.results)

    def collect(self, reason: str, trace: Sequence[str]) -> str:
        self._ask("collect")
        self.trace = list(trace)
        return "/state/bundle"

    def down(self, progress: Progress) -> None:
        self._ask("down")

    def close(self) -> None:
        self.asked.append("close")

    def facts(self) -> dict[str, str]:
        return {"kubernetes": "v1.37.2"}


def go(stages: FakeStages, *, keep: Keep = "never", with_labs: bool = True) -> RunReport:
    return Run(stages, Quiet(), keep=keep, with_labs=with_labs).go()


def outcomes(report: RunReport) -> str:
    return " ".join(f"{phase.name}={phase.outcome}" for phase in report.phases)


def test_a_good_run() -> None:
    stages = FakeStages()
    report = go(stages)
    assert stages.asked == ["doctor", "up", "proof", "labs", "down"]
    assert outcomes(report) == "doctor=ok up=ok proof=ok labs=ok down=ok"
    assert (report.exit_code, report.kept, report.bundle) == (0, False, "")
    assert [(step.title, step.result) for step in report.phases[1].steps] == [("Nodes", "3 nodes")]


def test_a_machine_that_is_not_ready_starts_nothing() -> None:
    stages = FakeStages(raises={"doctor": DockerUnreachable("no docker")})
    report = go(stages)
    assert stages.asked == ["doctor", "collect"]
    assert outcomes(report) == "doctor=broken up=skipped proof=skipped labs=skipped down=skipped"
    assert report.exit_code == 3


def test_a_failed_lab_is_1_collected_before_the_cluster_goes() -> None:
    stages = FakeStages(results=(lab(9), lab(10, BAD)))
    report = go(stages)
    assert stages.asked[-2:] == ["collect", "down"]
    assert (report.exit_code, report.bundle, report.kept) == (1, "/state/bundle", False)
    assert outcomes(report).endswith("labs=failed down=ok")


def test_a_cluster_without_a_network_to_prove_and_without_labs_verified_nothing() -> None:
    report = Run(
        FakeStages(proofs=(CheckResult("network", "x", Status.SKIP),)), Quiet(), with_labs=False
    ).go()
    assert report.exit_code == 9
    assert report.bundle == ""


@pytest.mark.parametrize("proofs", [(GOOD, BAD), ()])
def test_a_network_that_is_not_proven_is_4_and_no_lab_runs(proofs: tuple[CheckResult, ...]) -> None:
    stages = FakeStages(proofs=proofs)
    report = go(stages)
    assert "labs" not in stages.asked
    assert report.exit_code == 4
    assert "collect" in stages.asked


@pytest.mark.parametrize("keep", ["on-failure", "always"])
def test_the_ruins_of_a_failed_bring_up_are_named_as_kept(keep: Keep) -> None:
    broken = InfrastructureError("broken")
    broken.kept = True
    report = go(FakeStages(raises={"up": broken}), keep=keep)
    assert (report.exit_code, report.kept) == (4, True)
    assert report.phases[-1].said == f"kept (--keep {keep})"


def test_the_bundle_is_given_the_steps() -> None:
    stages = FakeStages(raises={"proof": InfrastructureError("broken")})
    go(stages)
    assert [line.partition("  0.")[0] for line in stages.trace] == ["up: done  Nodes: 3 nodes"]


def test_a_proof_that_has_no_meaning_here_is_no_failure() -> None:
    assert go(FakeStages(proofs=(GOOD, CheckResult("lb", "x", Status.SKIP)))).exit_code == 0


@pytest.mark.parametrize("phase", ["up", "proof", "labs"])
def test_broken_infrastructure_is_4_and_never_1(phase: str) -> None:
    stages = FakeStages(raises={phase: InfrastructureError("broken")})
    report = go(stages)
    assert report.exit_code == 4
    assert "collect" in stages.asked
    assert f"{phase}=broken" in outcomes(report)
    assert ("down" in stages.asked) == (phase != "up")  # a bring-up that failed has cleaned up by itself


@pytest.mark.parametrize(
    ("keep", "check", "kept"),
    [
        ("never", GOOD, False),
        ("never", BAD, False),
        ("on-failure", GOOD, False),
        ("on-failure", BAD, True),
        ("always", GOOD, True),
        ("always", BAD, True),
    ],
)
def test_keep(keep: Keep, check: CheckResult, kept: bool) -> None:
    stages = FakeStages(results=(lab(9, check),))
    assert go(stages, keep=keep).kept is kept
    assert ("down" not in stages.asked) is kept


def test_a_cluster_that_ran_before_is_left_as_it_was() -> None:
    stages = FakeStages(made=False)
    report = go(stages)
    assert "down" not in stages.asked
    assert (report.exit_code, report.kept) == (0, True)


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt(), 130), (Terminated("terminated"), 143)])
@pytest.mark.parametrize("phase", ["up", "proof", "labs"])
def test_an_interrupt_cleans_up_and_still_reports(stop: BaseException, code: int, phase: str) -> None:
    stages = FakeStages(raises={phase: stop})
    report = go(stages, keep="on-failure")
    assert report.exit_code == code
    assert "collect" not in stages.asked
    assert report.kept is False
    assert ("down" in stages.asked) == (phase != "up")


def test_an_interrupt_keeps_the_results_of_the_labs_that_ended() -> None:
    report = go(FakeStages(raises={"labs": KeyboardInterrupt()}))
    assert report.run is not None
    assert [one.number for one in report.run.labs] == [9]
    assert report.exit_code == 130


def test_an_interrupt_while_collecting_still_cleans_up() -> None:
    stages = FakeStages(results=(lab(9, BAD),), raises={"collect": KeyboardInterrupt()})
    assert go(stages).exit_code == 1
    assert stages.asked[-1] == "down"


def test_a_bundle_that_cannot_be_made_does_not_hide_the_failure() -> None:
    stages = FakeStages(results=(lab(9, BAD),), raises={"collect": ProofFailed("disk full")})
    report = go(stages)
    assert (report.exit_code, report.bundle) == (1, "")
    assert stages.asked[-1] == "down"


def test_what_could_not_be_removed_is_8() -> None:
    report = go(FakeStages(raises={"down": CleanupIncomplete("left", leftovers=["container x"])}))
    assert (report.exit_code, report.kept) == (8, True)


def test_an_exception_that_nobody_foresaw_is_a_bug_and_still_cleans_up() -> None:
    stages = FakeStages(raises={"labs": ZeroDivisionError("oops")})
    report = go(stages)
    assert report.exit_code == 70
    failure = report.phases[3].failure
    assert failure is not None
    assert "ZeroDivisionError" in failure.details
    assert stages.asked[-1] == "down"


def test_without_labs_the_proof_alone_counts() -> None:
    report = go(FakeStages(), with_labs=False)
    assert report.exit_code == 0
    assert report.phases[3].outcome is PhaseOutcome.SKIPPED


def test_labs_of_which_none_looked_at_anything_are_9() -> None:
    skipped = CheckResult("c", "It holds", Status.SKIP)
    assert go(FakeStages(results=(lab(9, skipped),))).exit_code == 9


@pytest.mark.parametrize(
    ("stages", "code"),
    [
        (FakeStages(), 4),
        (FakeStages(results=(lab(9, BAD),)), 1),
        (FakeStages(raises={"labs": KeyboardInterrupt()}), 130),
    ],
)
def test_a_report_that_cannot_be_written_does_not_replace_the_exit_code_of_the_run(
    stages: FakeStages, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise WriteFailed("r.xml could not be written", why="No space left on device")

    monkeypatch.setattr("labctl.ci.stages.RealStages", lambda *_: stages)
    monkeypatch.setattr("labctl.report.files.Files.write", full)
    out, err = io.StringIO(), io.StringIO()
    words = ["ci", "--labs", "9", "--output", "json"]
    result = cli.main(args=words, standalone_mode=False, obj=Console(out=out, err=err))
    assert result == code
    assert json.loads(out.getvalue())["cluster"] == "three-nodes", "the results are shown all the same"
    assert "No space left on device" in err.getvalue()


# --- whose the cluster is


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Iterator[RealStages]:
    """The real phases on a daemon in memory; the bring-up finds the cluster made."""
    docker = Fleet()

    def up(spec: ClusterSpec, *_: Any, keep_lock: bool, **__: Any) -> Up:
        docker.cluster(spec)
        assert keep_lock
        cluster = running.find(spec.name, docker=docker)
        return Up(cluster, Plan("create", ""), "v1", lock=lock.using(spec.name))

    monkeypatch.setattr(bringup, "up", up)
    monkeypatch.setattr("labctl.host.doctor.require", lambda *_, **__: ())
    with contextlib.closing(
        RealStages(ClusterSpec(name="c"), (), context.Options(), docker=docker)
    ) as stages:
        yield stages


def test_nobody_can_take_the_cluster_away_before_the_run_itself_deletes_it(stages: RealStages) -> None:
    stages.doctor()
    stages.up(Quiet())
    for replace in (lambda: teardown.down("c", Quiet(), docker=stages.docker), lambda: lock.changing("c")):
        with pytest.raises(Conflict):
            replace()
    stages.down(Quiet())
    assert not stages.docker.containers()
    stages.close()
    assert lock.held_by("c") == ()
    assert not lock.instance_is_held("c", "ci")


def test_a_lab_of_another_shell_keeps_the_cluster_and_is_named(stages: RealStages) -> None:
    stages.up(Quiet())
    with lock.using("c", what="lab 9"), pytest.raises(Conflict, match="lab 9"):
        stages.down(Quiet())
    assert stages.docker.containers()
    stages.down(Quiet())


def test_a_second_run_of_one_name_is_refused_with_words_that_fit(stages: RealStages) -> None:
    """I13: it said that the cluster still runs and how to delete it; the cluster was the first one's."""
    other = lock.instance("c", "ci", what="cluster c of `labctl ci`")
    with other:
        report = Run(stages, Quiet()).go()
    assert report.exit_code == 6
    assert outcomes(report) == "doctor=broken up=skipped proof=skipped labs=skipped down=skipped"
    assert "cluster c of `labctl ci` is another labctl's now: process" in report.phases[0].said
    assert (report.kept, report.bundle) == (False, "")
    out = io.StringIO()
    Console(out=out, err=out).data(data.as_json(report), lambda: text.report(report))
    assert "labctl down" not in out.getvalue()
    assert not stages.docker.containers()
