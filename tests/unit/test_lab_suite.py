"""Labs side by side: who runs beside whom, in which order results come, what an interrupt leaves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from kubernetes.client import V1ConfigMap, V1ObjectMeta

from labctl import parallel
from labctl.cluster.absence import store, taking
from labctl.cluster.absence.onnodes import FrozenNode
from labctl.images import workloads
from labctl.lab import Cluster, Lab, expect
from labctl.lab.engine import prover as prover_module
from labctl.lab.engine import suite as suite_module
from labctl.lab.engine.loader import LabFile
from labctl.lab.engine.suite import Suite, at_once
from labctl.lab.results import LabResult, Status
from labctl.waiting import pause
from tests.unit.fakes.apiserver import FakeKube, Listener, running
from tests.unit.fakes.onecluster import OneCluster

SECONDS = 20.0
WORKER = "one-worker"


@pytest.fixture
def kube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKube:
    kube = FakeKube()
    monkeypatch.setattr(suite_module, "connect", lambda *_: kube)
    monkeypatch.setattr("labctl.paths.state_root", lambda: tmp_path / "state")
    monkeypatch.setattr("labctl.waiting.pause", lambda seconds: pause(min(seconds, 0.005)))
    return kube


def fine(k8s: Cluster) -> None:
    """A look that holds."""


def lab(look: Callable[[Cluster], None], *, touches: tuple[str, ...] = ()) -> Lab:
    made = Lab(touches=touches)

    @made.step("Make it")
    def make(k8s: Cluster) -> None:
        body = V1ConfigMap(metadata=V1ObjectMeta(name="kept"))
        k8s.core.create_namespaced_config_map(namespace=k8s.namespace, body=body)

    made.check("it is so", within=SECONDS)(look)
    return made


def suite(monkeypatch: pytest.MonkeyPatch, *labs: Lab, jobs: int = 0) -> tuple[Suite, list[LabResult]]:
    files = [LabFile(number, f"l{number}", Path(__file__)) for number in range(11, 11 + len(labs))]
    monkeypatch.setattr(suite_module, "load", dict(zip(files, labs, strict=True)).__getitem__)
    heard: list[LabResult] = []
    made = Suite(running(containers=False), files, Listener(), on_result=heard.append, jobs=jobs or len(labs))
    return made, heard


def test_labs_run_side_by_side_and_results_come_in_their_order(
    kube: FakeKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits for the other one: one after the other they would never end."""
    meeting = threading.Barrier(2, timeout=SECONDS)

    def meets(k8s: Cluster) -> None:
        meeting.wait()

    one, heard = suite(monkeypatch, lab(meets), lab(meets))
    result = one.go("run")
    assert [(each.number, each.status) for each in result.labs] == [(11, Status.PASS), (12, Status.PASS)]
    assert {each.number for each in heard} == {11, 12}
    assert kube.names("namespace") == {"kube-system", "lab11", "lab12"}


def test_a_lab_that_touches_something_runs_alone_and_last(
    kube: FakeKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way: set[str] = set()
    most: dict[str, int] = {}

    def counted(name: str) -> Callable[[Cluster], None]:
        def look(k8s: Cluster) -> None:
            under_way.add(name)
            pause(0.05)
            most[name] = len(under_way)
            under_way.discard(name)

        return look

    labs = [lab(counted("touches"), touches=("kube-proxy",)), lab(counted("a")), lab(counted("b"))]
    one, heard = suite(monkeypatch, *labs)
    result = one.go("run")
    assert most["touches"] == 1
    assert heard[-1].number == 11
    assert [each.number for each in result.labs] == [11, 12, 13]


def test_one_job_is_one_after_the_other_with_the_same_verdicts(
    kube: FakeKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(k8s: Cluster) -> None:
        raise TypeError("typo")

    one, heard = suite(monkeypatch, lab(fine), lab(fails), jobs=1)
    result = one.go("run")
    assert [each.status for each in result.labs] == [Status.PASS, Status.ERROR]
    assert [each.number for each in heard] == [11, 12]


def test_an_interrupt_ends_all_of_them_cleans_up_and_knows_what_had_ended(
    kube: FakeKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = threading.Event()

    def waits(k8s: Cluster) -> None:
        others.set()
        expect(False, seen="never")

    one, _ = suite(monkeypatch, lab(fine), lab(waits), lab(waits))

    def interrupt(ended: LabResult) -> None:
        assert others.wait(SECONDS)
        raise KeyboardInterrupt  # as the signal's handler does, in the main thread

    one.on_result = interrupt
    with pytest.raises(KeyboardInterrupt) as stopped:
        one.go("run")
    assert [each.number for each in one.ended] == [11]
    said = str(stopped.value)
    assert said.startswith("interrupted; 1 of 3 lab(s) had ended")
    for name in ("12-l12", "13-l13"):
        assert f"lab {name}: all that it made is removed" in said
    assert kube.names("namespace") == {"kube-system", "lab11"}


def test_a_second_interrupt_orders_back_what_is_away_and_names_it(
    kube: FakeKube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lab's thread, which would give the node back, ends with the process."""
    docker = OneCluster(tmp_path / "nodes")
    node = FrozenNode(WORKER, (WORKER,))
    one, _ = suite(monkeypatch, lab(fine))
    one.cluster, one.docker = docker.cluster, docker

    def interrupted_twice(*_: object, **__: object) -> None:
        mark = taking.mark(docker.site, node, "lab11")
        store.write(mark, docker.cluster, docker)
        taking.take(docker.site, node, mark)
        assert docker.states[WORKER] == "paused"
        raise KeyboardInterrupt

    monkeypatch.setattr(workloads, "ensure", lambda *_: None)
    monkeypatch.setattr(suite_module, "require_nodes", lambda *_, **__: None)
    monkeypatch.setattr(parallel, "run", interrupted_twice)
    with pytest.raises(KeyboardInterrupt) as stopped:
        one.go("run")
    assert docker.states[WORKER] == "running"
    assert f"node {WORKER} (frozen)" in str(stopped.value)
    assert "`labctl heal one` puts it back" in str(stopped.value)


def test_a_foreign_namespace_spoils_one_lab_only(kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> None:
    from kubernetes.client import V1Namespace

    kube.add("namespace", "", V1Namespace(metadata=V1ObjectMeta(name="lab11")))
    one, _ = suite(monkeypatch, lab(fine), lab(fine))
    result = one.go("run")
    assert [each.status for each in result.labs] == [Status.ERROR, Status.PASS]
    assert result.exit_code == 6
    assert "kubectl delete" not in result.labs[0].reason


def test_how_many_at_once_depends_on_the_machine() -> None:
    assert 1 <= at_once() <= 3 * 64


def test_reset_finds_every_instance(kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> None:
    from labctl.lab.engine.guard import Guard
    from labctl.lab.engine.labrun import LabRun, LabSite

    one, _ = suite(monkeypatch, lab(fine))
    found = running(containers=False)
    site = LabSite(kube, found, Listener(), Guard(kube, found, None))  # type: ignore[arg-type]  # a stand-in
    ((_, made),) = suite_module.load_all(one.files)
    for tag in ("", "x7kq", "abcd"):
        assert LabRun.of(site, one.files[0], made, tag).run().status is Status.PASS
    assert kube.names("namespace") == {"kube-system", "lab11", "lab11-x7kq", "lab11-abcd"}
    one.reset()
    assert kube.names("namespace") == {"kube-system"}


def test_changed_proves_only_what_is_not_on_record(
    kube: FakeKube, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On record is a proof that passed, of the same file on the same kind of cluster."""

    def there(k8s: Cluster) -> None:
        k8s.core.read_namespaced_config_map(namespace=k8s.namespace, name="kept")

    def remove(k8s: Cluster) -> None:
        k8s.core.delete_namespaced_config_map(namespace=k8s.namespace, name="kept")

    labs = [lab(there), lab(there), lab(fine)]
    for one in labs:
        one.checks[0].__dict__["within"] = 0.05
        one.sabotage("remove it", breaks=one.checks[0].look)(remove)
    monkeypatch.setattr(prover_module, "STAY_SECONDS", 0.05)
    monkeypatch.setattr(prover_module, "TURN_SECONDS", 0.05)
    first, _ = suite(monkeypatch, *labs)
    files = [LabFile(one.number, one.slug, tmp_path / f"{one.number}_l.py") for one in first.files]
    for file in files:
        file.path.write_text(f"{file.number}")
    monkeypatch.setattr(suite_module, "load", dict(zip(files, labs, strict=True)).__getitem__)

    def prove(*, changed_only: bool = False) -> dict[int, Status]:
        done = Suite(running(containers=False), files, Listener(), jobs=3, changed_only=changed_only).go(
            "prove"
        )
        return {each.number: each.status for each in done.labs}

    passed, failed = Status.PASS, Status.FAIL
    assert prove() == {11: passed, 12: passed, 13: failed}
    assert prove(changed_only=True) == {13: failed}, "what failed is not on record"
    files[0].path.write_text("another text")
    assert prove(changed_only=True) == {11: passed, 13: failed}
    (tmp_path / "helper.py").write_text("a module beside the labs")
    assert prove(changed_only=True) == {11: passed, 12: passed, 13: failed}
    assert prove() == {11: passed, 12: passed, 13: failed}, "without the option nothing is left out"
    nothing = Suite(running(containers=False), files[:2], Listener(), changed_only=True).go("prove")
    assert (nothing.labs, nothing.on_record, nothing.exit_code) == ((), 2, 0)
