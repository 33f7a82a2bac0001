"""The authors' side of counterfactuals, and the guard that knows what is expected to be away."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from labctl.errors import NodeDown
from labctl.kube import ExecResult, Kube
from labctl.lab import CheckFailed, Cluster, Unmet
from labctl.lab.engine.guard import Guard
from labctl.lab.instance import Instance
from labctl.probe.pod import PodProbe
from labctl.waiting import NotYet, pause
from tests.unit.fakes.apiserver import node
from tests.unit.fakes.onecluster import PLANE, OneCluster

WORKER = "one-worker"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.waiting.pause", lambda seconds: pause(min(seconds, 0.002)))


@pytest.fixture
def one(tmp_path: Path) -> OneCluster:
    return OneCluster(tmp_path / "nodes")


@pytest.fixture
def k8s(one: OneCluster) -> Cluster:
    return handle(one)


def handle(one: OneCluster, **more: Any) -> Cluster:
    given = {"docker": one, **more}
    instance = Instance(17, "17-scheduler", tag="x7kq", nonce="n")
    return Cluster(cast(Kube, one.kube), one.cluster, instance, **given)


def test_a_lab_takes_a_part_away_and_its_name_is_in_the_marker(one: OneCluster, k8s: Cluster) -> None:
    with k8s.stopped("kube-scheduler") as nothing:
        assert nothing is None
        assert not one.runs("kube-scheduler")
        assert [each.title for each in k8s.absences.active] == ["kube-scheduler"]
        assert k8s.absences.expected == frozenset(k8s.absences.active)
        [marker] = (one.root / PLANE / "var/lib/labctl/absences").iterdir()
        assert '"by": "lab17-x7kq"' in marker.read_text()
    assert one.runs("kube-scheduler")
    assert k8s.absences.active == ()
    assert k8s.absences.expected == frozenset()


def test_a_placebo_touches_nothing_and_says_that_it_is_active(one: OneCluster, k8s: Cluster) -> None:
    k8s = k8s.pretending()
    assert k8s.placebo
    blocks = [
        k8s.stopped("kube-scheduler"), k8s.stopped("kubelet", node=WORKER), k8s.frozen(WORKER),
        k8s.stopped_node(WORKER), k8s.without_rules(WORKER), k8s.unready("web-1"),
    ]  # fmt: skip
    for block in blocks:
        with block:
            assert len(k8s.absences.active) == 1
            assert k8s.absences.expected == frozenset()
    assert one.done == []
    assert one.kube.patched == []


def test_a_lab_beside_others_takes_nothing_of_theirs_away(one: OneCluster) -> None:
    """It would break their checks: it must say `touches=`, so that it runs alone."""
    beside = handle(one, alone=False)
    for k8s in (beside, beside.pretending(), beside.patient(3.0)):
        with pytest.raises(ValueError, match="touches="), k8s.stopped("kube-scheduler"):
            raise AssertionError("it was taken away")
    assert one.done == []
    nothing: dict[str, Any] = dict.fromkeys(("take", "give", "gone", "back"), lambda: None)
    with beside.absences.own("what is its own", **nothing):
        assert [each.title for each in beside.absences.active] == ["what is its own"]


def test_without_access_to_the_nodes_an_experiment_is_unmet(one: OneCluster) -> None:
    with (
        pytest.raises(Unmet, match="access to the nodes"),
        handle(one, docker=None).stopped("kube-scheduler"),
    ):
        raise AssertionError("the block must not be entered")
    nodes = tuple(replace(each, container=None) for each in one.cluster.nodes)
    one.cluster = replace(one.cluster, nodes=nodes)
    with pytest.raises(Unmet), handle(one).frozen(WORKER):
        raise AssertionError("the block must not be entered")


def test_what_is_active_is_forgotten_when_the_block_is_left_in_a_hurry(k8s: Cluster) -> None:
    with pytest.raises(KeyboardInterrupt), k8s.stopped("CoreDNS"):
        raise KeyboardInterrupt
    assert k8s.absences.active == ()
    assert k8s.absences.expected == frozenset()


def test_something_of_the_lab_s_own_comes_back_as_well(k8s: Cluster) -> None:
    there = {"file"}

    def must(be: bool) -> None:
        if ("file" in there) is not be:
            raise CheckFailed("not so")

    def without_file() -> AbstractContextManager[None]:
        return k8s.absences.own(
            "a file",
            take=lambda: there.discard("file"),
            gone=lambda: must(False),
            give=lambda: there.add("file"),
            back=lambda: must(True),
        )

    with without_file():
        assert not there
        assert [each.title for each in k8s.absences.active] == ["a file"]
    assert there == {"file"}
    with pytest.raises(KeyError), without_file():
        raise KeyError
    assert there == {"file"}


def test_an_unready_pod_is_unready_inside_and_ready_after(
    one: OneCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod: Any = node("web-1")  # a condition Ready is all that is looked at
    said: list[list[str]] = []

    def execute(namespace: str, name: str, argv: list[str], **_: Any) -> ExecResult:
        said.append([namespace, name, *argv])
        pod.status.conditions[0].status = "False" if argv[0] == "touch" else "True"
        return ExecResult(0, "", "")

    kube = cast(Any, one.kube)
    kube.exec = execute
    kube.core = kube
    kube.read_namespaced_pod = lambda **_: pod
    with handle(one).unready(pod):
        assert pod.status.conditions[0].status == "False"
    assert said == [
        ["lab17-x7kq", "web-1", "touch", "/tmp/unready"],
        ["lab17-x7kq", "web-1", "rm", "-f", "/tmp/unready"],
    ]


def test_silence_of_the_api_server_is_a_condition_that_needs_none(k8s: Cluster) -> None:
    silent = k8s.api_silent()
    with pytest.raises(CheckFailed):
        silent(k8s)
    with k8s.stopped("kube-apiserver"):
        silent(k8s)


def test_a_pod_is_asked_from_its_node(one: OneCluster, k8s: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "pods": (0, "sandbox\n"),
        "inspectp": (0, '{"status": {"network": {"ip": "10.244.1.5"}}}'),
        "http://10.244.1.5:8080/dial?host=10.96.0.9&port=80&request=x&protocol=http&tries=1": (
            0, '{"responses": ["web-1/n"]}\n200'
        ),
    }  # fmt: skip
    monkeypatch.setattr(
        one, "_answer", lambda _node, argv, _in: next(v for k, v in answers.items() if k in argv)
    )
    with_node = PodProbe(cast(Kube, k8s.beside_api), "lab17", "client")
    assert with_node.dial("10.96.0.9", 80, request="x").answers == ("web-1/n",)


# --- the guard


class Nodes:
    """The API's list of nodes, beside docker's containers."""

    def __init__(self, one: OneCluster) -> None:
        self.one = one
        self.asked = 0
        self.core = self
        self.unready: set[str] = set()

    def list_node(self) -> Any:
        self.asked += 1
        names = [each.name for each in self.one.cluster.nodes]
        return type("Listed", (), {"items": [node(name, ready=name not in self.unready) for name in names]})

    def translated(self, doing: str) -> Any:
        return self.one.kube.translated(doing)


def test_the_guard_bears_what_is_expected_and_nothing_else(one: OneCluster, k8s: Cluster) -> None:
    nodes = Nodes(one)
    guard = Guard(cast(Kube, nodes), one.cluster, one)
    with guard.expecting(lambda: k8s.absences.expected):
        guard.ask()
        with k8s.frozen(WORKER):
            nodes.unready = {WORKER}
            guard.ask()
            one.states[PLANE] = "exited"
            with pytest.raises(NodeDown, match="one-control-plane exited"):
                guard.ask_docker()
            one.states[PLANE] = "running"
            nodes.unready = {WORKER, PLANE}
            with pytest.raises(NodeDown, match=PLANE):
                guard.ask()
        nodes.unready = {WORKER}
        with pytest.raises(NodeDown, match=WORKER):
            guard.ask()


def test_the_guard_asks_no_api_server_that_was_taken_away(one: OneCluster, k8s: Cluster) -> None:
    nodes = Nodes(one)
    guard = Guard(cast(Kube, nodes), one.cluster, one)
    with guard.expecting(lambda: k8s.absences.expected), k8s.stopped("etcd"):
        guard.ask()
        assert nodes.asked == 0
        one.states[WORKER] = "exited"
        with pytest.raises(NodeDown):
            guard.ask()
        one.states[WORKER] = "running"
    guard.ask()
    assert nodes.asked == 1


def test_in_a_placebo_a_node_that_is_away_is_a_surprise(one: OneCluster, k8s: Cluster) -> None:
    k8s = k8s.pretending()
    guard = Guard(cast(Kube, Nodes(one)), one.cluster, one)
    with guard.expecting(lambda: k8s.absences.expected), k8s.frozen(WORKER):
        one.states[WORKER] = "paused"
        with pytest.raises(NodeDown):
            guard.ask_docker()
        one.states[WORKER] = "running"


def test_own_looks_may_say_not_yet(k8s: Cluster) -> None:
    looks = iter([NotYet("no"), None, None])

    def look() -> None:
        if seen := next(looks):
            raise seen

    with k8s.absences.own("x", take=lambda: None, gone=look, give=lambda: None, back=look):
        pass
    assert next(looks, "all were asked for") == "all were asked for"
