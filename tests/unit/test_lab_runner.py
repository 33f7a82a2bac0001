from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import (
    V1ConfigMap,
    V1Namespace,
    V1ObjectMeta,
    V1PersistentVolume,
    V1PersistentVolumeSpec,
)

from labctl.cluster.absence.gate import Difference
from labctl.cluster.running import RunningCluster
from labctl.errors import CleanupIncomplete, Conflict, ProbeDidNotRun
from labctl.lab import Cluster, Experiment, Lab, expect, holds, ready
from labctl.lab.engine import labrun as labrun_module
from labctl.lab.engine import namespaces as namespaces_module
from labctl.lab.engine.labrun import LabRun
from labctl.lab.engine.loader import LabFile
from labctl.lab.instance import PLAIN
from labctl.lab.labels import INSTANCE, LAB, NONCE
from labctl.lab.results import CheckResult, LabResult, Status
from labctl.waiting import Hopeless, pause
from tests.unit.fakes.apiserver import FakeKube, Listener, node, running
from tests.unit.fakes.site import FakeDocker, run_of, site

FILE = LabFile(11, "volume", Path(__file__), "Volumes")
LEFT = Difference("kube-scheduler", "away")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.waiting.pause", lambda seconds: pause(min(seconds, 0.005)))


@pytest.fixture
def kube() -> FakeKube:
    return FakeKube()


def config_map(name: str) -> V1ConfigMap:
    return V1ConfigMap(metadata=V1ObjectMeta(name=name))


def good_lab() -> Lab:
    """Two steps and two checks over a ConfigMap that holds the nonce."""
    lab = Lab()

    @lab.step("Make it")
    def make(k8s: Cluster) -> None:
        body = config_map("kept")
        body.data = {"nonce": k8s.nonce}
        k8s.core.create_namespaced_config_map(namespace="lab11", body=body)

    @lab.step("Remember it")
    def note(k8s: Cluster) -> None:
        k8s.remember(nonce=k8s.nonce)

    @lab.check("It is there", within=0.05)
    def there(k8s: Cluster) -> None:
        k8s.core.read_namespaced_config_map(namespace="lab11", name="kept")

    @lab.check("It holds the nonce", within=0.05)
    def holds_nonce(k8s: Cluster) -> None:
        found: Any = k8s.core.read_namespaced_config_map(namespace="lab11", name="kept")
        expect(found.data["nonce"] == k8s.recall("nonce"), seen=found.data["nonce"])

    @lab.hint(for_=holds_nonce)
    def another_run(k8s: Cluster) -> str | None:
        return "somebody changed it: run the lab again"

    return lab


def statuses(result: LabResult) -> list[Status]:
    return [check.status for check in result.checks]


def test_a_good_lab_passes_and_everything_carries_its_labels(kube: FakeKube) -> None:
    result = run_of(kube, FILE, good_lab()).run()
    assert (result.status, statuses(result)) == (Status.PASS, [Status.PASS, Status.PASS])
    namespace = kube.objects["namespace", "", "lab11"]
    assert namespace.metadata.labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert namespace.metadata.labels[LAB] == "11-volume"
    assert kube.objects["config_map", "lab11", "kept"].metadata.labels[NONCE]


def test_a_lab_starts_from_nothing_each_time(kube: FakeKube) -> None:
    first = run_of(kube, FILE, good_lab()).run()
    nonce = kube.objects["config_map", "lab11", "kept"].metadata.labels[NONCE]
    second = run_of(kube, FILE, good_lab()).run()
    assert (first.status, second.status) == (Status.PASS, Status.PASS)
    assert kube.objects["config_map", "lab11", "kept"].metadata.labels[NONCE] != nonce


def test_verify_works_from_another_process_and_changes_nothing(kube: FakeKube) -> None:
    run_of(kube, FILE, good_lab()).run()
    kube.calls.clear()
    result = run_of(kube, FILE, good_lab()).verify()
    assert result.status is Status.PASS
    assert not [call for call in kube.calls if not call.startswith(("read_", "list_"))]


def test_a_check_that_fails_says_what_and_why_and_what_to_do(kube: FakeKube) -> None:
    run_of(kube, FILE, good_lab()).run()
    kube.objects["config_map", "lab11", "kept"].data = {"nonce": "yesterday"}
    result = run_of(kube, FILE, good_lab()).verify()
    assert statuses(result) == [Status.PASS, Status.FAIL]
    failed = result.checks[1]
    assert failed.id == "holds_nonce"
    assert (failed.expected, failed.actual) == ("It holds the nonce", "yesterday")
    assert failed.hint == "somebody changed it: run the lab again"


def test_hints_are_asked_for_the_check_that_failed_only(kube: FakeKube) -> None:
    run_of(kube, FILE, good_lab()).run()
    del kube.objects["config_map", "lab11", "kept"]
    result = run_of(kube, FILE, good_lab()).verify()
    assert statuses(result) == [Status.FAIL, Status.FAIL]
    assert "not found" in result.checks[0].actual
    assert [bool(check.hint) for check in result.checks] == [False, True]


def test_a_hint_that_fails_does_not_lose_the_result(kube: FakeKube) -> None:
    lab = Lab()

    @lab.check("no", within=0)
    def no(k8s: Cluster) -> None:
        expect(False, seen="no")

    @lab.hint()
    def bad(k8s: Cluster) -> str | None:
        raise KeyError("typo")

    (check,) = run_of(kube, FILE, lab).run().checks
    assert check.status is Status.FAIL
    assert "bad failed with KeyError" in check.hint


def test_verify_of_a_lab_that_was_never_run_fails_at_once_and_says_so(kube: FakeKube) -> None:
    result = run_of(kube, FILE, good_lab()).verify()
    assert statuses(result) == [Status.FAIL, Status.FAIL]
    assert result.checks[0].hint == "run the lab first: `labctl lab run 11`"


def test_a_probe_that_did_not_run_is_an_error_never_a_failure(kube: FakeKube) -> None:
    lab = Lab()

    @lab.check("nobody answers", within=0.02)
    def blocked(k8s: Cluster) -> None:
        raise ProbeDidNotRun("the probe did not run", why="the pod is gone")

    result = run_of(kube, FILE, lab).run()
    assert (result.status, statuses(result)) == (Status.ERROR, [Status.ERROR])
    assert result.checks[0].actual == "the probe did not run: the pod is gone"


def test_a_bug_in_a_check_is_an_error_with_its_line(kube: FakeKube) -> None:
    lab = Lab()

    @lab.check("a typo", within=60)
    def typo(k8s: Cluster) -> None:
        raise TypeError("no such thing")

    (check,) = run_of(kube, FILE, lab).run().checks
    assert check.status is Status.ERROR
    assert check.actual.startswith("TypeError: no such thing (test_lab_runner.py:")


def test_a_step_that_fails_makes_the_lab_an_error_and_no_check_is_looked_at(kube: FakeKube) -> None:
    lab = Lab()
    looked = []

    @lab.step("Make it twice")
    def make(k8s: Cluster) -> None:
        for _ in range(2):
            k8s.core.create_namespaced_config_map(namespace="lab11", body=config_map("kept"))

    @lab.check("never reached")
    def never(k8s: Cluster) -> None:
        looked.append(1)

    result = run_of(kube, FILE, lab).run()
    assert (result.status, statuses(result), looked) == (Status.ERROR, [Status.SKIP], [])
    assert result.reason.startswith("step 'Make it twice': cannot Make it twice: 409 Conflict")


def test_what_was_found_before_the_work_broke_off_stays(kube: FakeKube) -> None:
    found = CheckResult("first", "the first", Status.PASS)

    def work() -> Iterator[CheckResult]:
        yield found
        raise CleanupIncomplete("not gone", leftovers=["namespace/lab11"], why="a finalizer")

    result = run_of(kube, FILE, good_lab()).result(work)
    assert result.checks[0] is found
    rest = result.checks[1]
    assert (len(result.checks), rest.id, rest.status) == (2, "the-rest", Status.ERROR)
    assert rest.actual == result.reason == "not gone: a finalizer"
    assert (result.status, result.leftovers) == (Status.ERROR, ("namespace/lab11",))


def waiting_lab(condition: Any, within: float) -> tuple[Lab, list[int]]:
    lab = Lab()
    acted: list[int] = []

    @lab.step("Go on", when=condition, within=within)
    def go(k8s: Cluster) -> None:
        acted.append(1)

    @lab.check("went on", within=0)
    def went(k8s: Cluster) -> None:
        expect(bool(acted), seen="nothing")

    return lab, acted


def test_a_step_waits_for_its_condition(kube: FakeKube) -> None:
    looks: list[int] = []

    def third_time(k8s: Cluster) -> None:
        looks.append(1)
        expect(len(looks) == 3, seen=f"{len(looks)} of 3")

    listener = Listener()
    lab, acted = waiting_lab(third_time, within=60)
    assert run_of(kube, FILE, lab, listener=listener).run().status is Status.PASS
    assert (len(looks), acted) == (3, [1])
    assert listener.notes == ["1 of 3", "2 of 3"]


def test_a_step_whose_condition_never_comes_is_an_error_with_the_last_observation(kube: FakeKube) -> None:
    lab, acted = waiting_lab(ready("writer"), within=0.02)
    result = run_of(kube, FILE, lab).run()
    assert (result.status, acted) == (Status.ERROR, [])
    assert "not within 0 s: last seen: 0 pod(s) with app=writer" in result.reason


def test_a_vain_wait_comes_with_the_advice_that_is_for_every_check(kube: FakeKube) -> None:
    lab, _ = waiting_lab(ready("writer"), within=0.02)

    @lab.hint()
    def everywhere(k8s: Cluster) -> str | None:
        return "kube-proxy does not run"

    assert "(kube-proxy does not run)" in run_of(kube, FILE, lab).run().reason


def test_a_condition_that_can_no_longer_come_true_ends_the_wait_at_once(kube: FakeKube) -> None:
    looks: list[int] = []

    def refused(k8s: Cluster) -> None:
        looks.append(1)
        raise Hopeless("pod lab11/writer: ImagePullBackOff: no such image")

    lab, acted = waiting_lab(refused, within=3600)
    result = run_of(kube, FILE, lab).run()
    assert (result.status, acted, len(looks)) == (Status.ERROR, [], 1)
    assert "ImagePullBackOff: no such image" in result.reason


def test_a_node_that_died_is_named_and_the_lab_is_an_error(kube: FakeKube) -> None:
    docker = FakeDocker()
    lab = Lab()

    @lab.check("somebody answers", within=3600)
    def answers(k8s: Cluster) -> None:
        docker.states["one-worker"] = "exited"
        expect(False, seen="nobody")

    result = run_of(kube, FILE, lab, docker=docker).run()
    assert (result.status, statuses(result)) == (Status.ERROR, [Status.ERROR])
    assert "container one-worker exited" in result.checks[0].actual


def test_a_step_that_fails_because_a_node_died_names_the_node(kube: FakeKube) -> None:
    docker = FakeDocker()
    lab = good_lab()

    @lab.step("Lose a node")
    def lose(k8s: Cluster) -> None:
        docker.states["one-worker2"] = "exited"
        raise OSError("connection refused")

    result = run_of(kube, FILE, lab, docker=docker).run()
    assert result.status is Status.ERROR
    assert "container one-worker2 exited" in result.reason


def test_a_dead_node_is_noticed_before_anything_is_touched(kube: FakeKube) -> None:
    result = run_of(kube, FILE, good_lab(), docker=FakeDocker(**{"one-worker": "paused"})).run()
    assert (result.status, kube.calls) == (Status.ERROR, [])
    assert "one-worker is paused" in result.reason


def test_a_node_that_is_not_ready_is_an_error_too(kube: FakeKube) -> None:
    kube.add("node", "", node("one-worker", ready=False))
    result = run_of(kube, FILE, good_lab()).run()
    assert result.status is Status.ERROR
    assert "not Ready: one-worker" in result.reason


@pytest.mark.parametrize(
    ("needs", "cluster", "reason"),
    [
        (["workers=3"], running(workers=2), "needs 3 workers, the cluster has 2"),
        (["node access"], running(containers=False), "needs access to the nodes"),
        (["load balancer"], running(load_balancer="none"), "the cluster has none"),
        (["NetworkPolicy"], running(), "flannel does not enforce it"),
    ],
)
def test_a_lab_that_the_cluster_is_not_fit_for_is_skipped(
    kube: FakeKube, needs: list[str], cluster: RunningCluster, reason: str
) -> None:
    lab = good_lab()
    lab.needs = tuple(needs)
    result = run_of(kube, FILE, lab, cluster=cluster).run()
    assert (result.status, statuses(result)) == (Status.SKIP, [Status.SKIP, Status.SKIP])
    assert reason in result.reason
    assert kube.calls == []
    strict = run_of(kube, FILE, lab, cluster=cluster, strict=True).run()
    assert (strict.status, statuses(strict)) == (Status.FAIL, [Status.FAIL, Status.FAIL])
    assert reason in strict.checks[0].actual


def test_a_lab_whose_needs_are_met_runs(kube: FakeKube) -> None:
    lab = good_lab()
    lab.needs = ("workers=2", "node access", "load balancer")
    assert run_of(kube, FILE, lab).run().status is Status.PASS


# --- experiments


def experiment_lab(events: list[str], *, symptom: bool = True) -> Lab:
    lab = Lab()

    def rest_works(k8s: Cluster) -> None: ...

    def symptom_shows(k8s: Cluster) -> None:
        expect(symptom, seen="it went on working")

    @lab.experiment("Without it")
    def without(k8s: Cluster) -> Experiment:
        events.append("taken away")
        try:
            yield holds("the symptom", symptom_shows, consistently=0.01, within=0.02, control=rest_works)
            yield holds("the rest works", rest_works)
        finally:
            events.append("put back")
        yield holds("it is healed", rest_works)

    return lab


def test_each_statement_of_an_experiment_is_a_check(kube: FakeKube) -> None:
    events: list[str] = []
    result = run_of(kube, FILE, experiment_lab(events)).run()
    assert [(check.id, check.title, check.status) for check in result.checks] == [
        ("without.1", "the symptom", Status.PASS),
        ("without.2", "the rest works", Status.PASS),
        ("without.3", "it is healed", Status.PASS),
    ]
    assert events == ["taken away", "put back"]


def test_an_experiment_goes_on_after_a_failure_and_puts_everything_back(kube: FakeKube) -> None:
    events: list[str] = []
    result = run_of(kube, FILE, experiment_lab(events, symptom=False)).run()
    assert statuses(result) == [Status.FAIL, Status.PASS, Status.PASS]
    assert events == ["taken away", "put back"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, GeneratorExit, RuntimeError])
def test_an_experiment_that_is_cut_short_puts_everything_back(
    kube: FakeKube, stop: type[BaseException]
) -> None:
    events: list[str] = []
    lab = Lab()

    @lab.experiment("Cut short")
    def cut(k8s: Cluster) -> Experiment:
        try:
            events.append("taken away")
            yield holds("fine", lambda k8s: None)
            raise stop("enough")
        finally:
            events.append("put back")

    result = run_of(kube, FILE, lab).run()
    assert statuses(result) == [Status.PASS, Status.ERROR]
    assert f"{stop.__name__}: enough (test_lab_runner.py:" in result.checks[1].actual
    assert events == ["taken away", "put back"]


def test_verify_leaves_experiments_out(kube: FakeKube) -> None:
    events: list[str] = []
    lab = experiment_lab(events)
    run_of(kube, FILE, lab).prepare()
    assert statuses(run_of(kube, FILE, lab).verify()) == [Status.SKIP]
    assert events == []


def test_an_experiment_that_states_nothing_is_an_error(kube: FakeKube) -> None:
    lab = Lab()

    @lab.experiment("Silent")
    def silent(k8s: Cluster) -> Experiment:
        if not k8s.nodes:
            yield "never", lambda k8s: None

    assert statuses(run_of(kube, FILE, lab).run()) == [Status.ERROR]


# --- reset


def test_reset_removes_what_carries_the_label_wherever_it_is(kube: FakeKube) -> None:
    run_of(kube, FILE, good_lab()).run()
    labels = {LAB: "11-volume", INSTANCE: PLAIN}
    volume = V1PersistentVolume(
        metadata=V1ObjectMeta(name="pv", labels=labels), spec=V1PersistentVolumeSpec()
    )
    kube.add("persistent_volume", "", volume)
    kube.add("config_map", "kube-system", V1ConfigMap(metadata=V1ObjectMeta(name="far", labels=labels)))
    kube.add("config_map", "kube-system", config_map("theirs"))
    other = V1Namespace(metadata=V1ObjectMeta(name="extra", labels=labels))
    kube.add("namespace", "", other)
    assert run_of(kube, FILE, good_lab()).reset() == 4
    assert kube.names("namespace") == {"kube-system"}
    assert kube.names("persistent_volume") == set()
    assert kube.names("config_map", "kube-system") == {"theirs"}
    assert run_of(kube, FILE, good_lab()).reset() == 0


@pytest.mark.parametrize("labels", [None, {LAB: "12-service"}])
def test_a_namespace_that_is_not_the_labs_is_left_alone(
    kube: FakeKube, labels: dict[str, str] | None
) -> None:
    kube.add("namespace", "", V1Namespace(metadata=V1ObjectMeta(name="lab11", labels=labels)))
    result = run_of(kube, FILE, good_lab()).run()
    assert (result.status, result.code) == (Status.ERROR, Conflict.exit_code)
    assert "namespace lab11 is not lab 11-volume's" in result.reason
    with pytest.raises(Conflict, match="namespace lab11 is not lab 11-volume's"):
        run_of(kube, FILE, good_lab()).reset()
    assert "lab11" in kube.names("namespace")


def test_a_finalizer_that_holds_a_namespace_is_named_in_bounded_time(
    kube: FakeKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespaces_module, "REMOVAL_SECONDS", 0.05)
    run_of(kube, FILE, good_lab()).run()
    kube.finalizers.add("lab11")
    result = run_of(kube, FILE, good_lab()).run()
    assert result.status is Status.ERROR
    (left,) = result.leftovers
    assert left.startswith("namespace/lab11: ")
    assert "example.com/hold" in left
    kube.finalizers.clear()
    assert run_of(kube, FILE, good_lab()).run().status is Status.PASS


def test_with_fail_fast_a_lab_ends_at_the_first_check_that_does_not_hold(kube: FakeKube) -> None:
    lab = Lab()
    looked: list[str] = []

    @lab.check("First", within=0)
    def first(k8s: Cluster) -> None:
        expect(False, seen="no")

    @lab.check("Second", within=0)
    def second(k8s: Cluster) -> None:
        looked.append("second")

    where = replace(site(kube), fail_fast=True)
    assert statuses(LabRun.of(where, FILE, lab).run()) == [Status.FAIL, Status.SKIP]
    assert looked == []
    assert statuses(run_of(kube, FILE, lab).run()) == [Status.FAIL, Status.PASS]


# --- the cluster as it was found


def touching_lab() -> Lab:
    lab = Lab(touches=["kube-scheduler"])

    @lab.check("It is so", within=0)
    def so(k8s: Cluster) -> None:
        """It holds."""

    return lab


@pytest.mark.parametrize(
    ("seen", "statuses_of", "said"),
    [
        ([(), ()], [Status.PASS], ""),
        (
            [(LEFT,)],
            [Status.SKIP],
            "before it takes something away the cluster is not well: kube-scheduler: away",
        ),
        (
            [(), (LEFT,)],
            [Status.PASS, Status.ERROR],
            "the lab has not left the cluster as it found it: kube-scheduler: away",
        ),
    ],
    ids=["well", "not well before", "not well after"],
)
def test_the_cluster_is_looked_at_before_and_after_a_lab_that_takes_something_away(
    kube: FakeKube,
    monkeypatch: pytest.MonkeyPatch,
    seen: list[tuple[Difference, ...]],
    statuses_of: list[Status],
    said: str,
) -> None:
    looks = list(seen)
    monkeypatch.setattr(labrun_module, "gate", lambda *_, **__: looks.pop(0))
    result = run_of(kube, FILE, touching_lab(), docker=FakeDocker()).run()
    assert statuses(result) == statuses_of
    assert said in result.reason
    assert not looks


def test_a_lab_that_touches_nothing_asks_no_gate(kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> tuple[Difference, ...]:
        raise AssertionError("asked")

    monkeypatch.setattr(labrun_module, "gate", never)
    assert run_of(kube, FILE, good_lab(), docker=FakeDocker()).run().status is Status.PASS
