"""Taking things away and paying them back, on a cluster that lives in a directory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from labctl.cluster import status
from labctl.cluster.absence import besideapi, known, marker, store, taking
from labctl.cluster.absence.gate import gate
from labctl.cluster.absence.kinds import Absence
from labctl.cluster.absence.marker import Process
from labctl.cluster.absence.onnodes import MANIFESTS, FrozenNode, StoppedNode
from labctl.cluster.absence.workloads import WithoutRules, without
from labctl.errors import (
    ApiUnreachable,
    CleanupIncomplete,
    InfrastructureError,
    LabctlError,
    NodeDown,
    Terminated,
    UsageError,
)
from labctl.kube import Kube
from labctl.waiting import NotYet, pause
from tests.unit.fakes.apiserver import Listener
from tests.unit.fakes.onecluster import PLANE, RULES, OneCluster

WORKER = "one-worker"

EVERY: dict[str, Callable[[OneCluster], Absence]] = {
    **{
        name: lambda one, name=name: known.named(name, one.cluster)  # type: ignore[misc]  # bound per name
        for name in (
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "etcd",
            "CoreDNS",
            "kube-proxy",
        )
    },
    "kubelet": lambda one: known.named("kubelet", one.cluster, WORKER),
    "containerd": lambda one: known.named("containerd", one.cluster, WORKER),
    "kube-proxy off one node": lambda one: known.named("kube-proxy", one.cluster, WORKER),
    "without rules": lambda _: WithoutRules("kube-proxy", (WORKER,), "kube-system"),
    "frozen": lambda _: FrozenNode(WORKER, (WORKER,)),
    "stopped": lambda _: StoppedNode(WORKER, (WORKER,)),
    "frozen control plane": lambda _: FrozenNode(PLANE, (PLANE,)),
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.waiting.pause", lambda seconds: pause(min(seconds, 0.002)))


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OneCluster:
    made = OneCluster(tmp_path / "nodes")
    monkeypatch.setattr(taking, "connect", lambda *_: made.kube)
    return made


def snapshot(one: OneCluster) -> dict[str, Any]:
    """All that an absence may change, and the files of every node."""
    files = {str(at.relative_to(one.root)): at.read_text() for at in one.root.rglob("*") if at.is_file()}
    return {
        "files": files,
        "states": dict(one.states),
        "units": dict(one.units),
        "rules": dict(one.rules),
        "specs": json.dumps([each["spec"] for each in one.kube.objects.values()]).replace(
            ', "affinity": null', ""
        ),
    }


def on_disk() -> list[Path]:
    return list(store.directory("one").glob("*.json"))


def leave(one: OneCluster, absence: Absence) -> marker.Marker:
    """What a process that is killed inside the block leaves: the thing away, and its marker."""
    left = taking.mark(one.site, absence)
    left = replace(left, process=replace(left.process, started="1"))
    store.write(left, one.cluster, one)
    taking.take(one.site, absence, left)
    return left


def leave_by(block: AbstractContextManager[Any], stop: BaseException) -> None:
    """Leave a block as that exception would."""
    if not block.__exit__(type(stop), stop, None):
        raise stop


@pytest.mark.parametrize("which", EVERY)
def test_it_is_really_gone_inside_and_exactly_as_before_after(one: OneCluster, which: str) -> None:
    absence = EVERY[which](one)
    before = snapshot(one)
    with taking.taken_away(one.site, absence, by="lab17") as mark:
        absence.gone(one.site, mark.before)
        assert snapshot(one) != before
        assert mark.by == "lab17"
        assert [json.loads(each.read_text())["id"] for each in on_disk()] == [mark.id]
        if one.states[PLANE] == "running":
            assert one.path(PLANE, f"{store.ON_NODE}/{mark.id}.json").exists()
    assert snapshot(one) == before
    assert not on_disk()
    assert gate(one.site) == ()


@pytest.mark.parametrize("which", EVERY)
@pytest.mark.parametrize(
    "stop", [KeyboardInterrupt(), Terminated(), SystemExit(), RuntimeError("lab"), GeneratorExit()]
)
def test_it_comes_back_at_every_exit(one: OneCluster, which: str, stop: BaseException) -> None:
    before = snapshot(one)
    with pytest.raises(type(stop)), taking.taken_away(one.site, EVERY[which](one)):
        raise stop
    assert snapshot(one) == before
    assert not on_disk()


@pytest.mark.parametrize("which", EVERY)
def test_what_a_killed_process_left_is_paid_back_from_the_marker_alone(one: OneCluster, which: str) -> None:
    before = snapshot(one)
    left = leave(one, EVERY[which](one))
    assert [each.id for each in taking.outstanding(one.cluster, one)] == [left.id]
    assert "is gone" in str(left)
    assert "labctl heal one" in left.next_step
    progress = Listener()
    paid = taking.pay_back_stale(one.cluster, one, progress)
    assert [each.id for each in paid] == [left.id]
    assert snapshot(one) == before
    assert taking.outstanding(one.cluster, one) == ()
    assert gate(one.site) == ()
    assert taking.pay_back_stale(one.cluster, one, progress) == ()
    taking.pay_back(one.site, [left])  # paying back twice is paying back once
    assert snapshot(one) == before


def test_another_user_finds_the_marker_on_the_node(one: OneCluster) -> None:
    left = leave(one, EVERY["kube-scheduler"](one))
    for each in on_disk():
        each.unlink()
    assert [each.id for each in taking.outstanding(one.cluster, one)] == [left.id]


def test_while_the_control_plane_sleeps_the_disk_knows(one: OneCluster) -> None:
    left = leave(one, EVERY["frozen control plane"](one))
    assert [each.id for each in taking.outstanding(one.cluster, one)] == [left.id]


def test_a_marker_of_a_former_cluster_of_that_name_is_forgotten(one: OneCluster) -> None:
    leave(one, EVERY["CoreDNS"](one))
    one.id = "plane-2"
    one.path(PLANE, store.ON_NODE).rename(one.path(PLANE, "/elsewhere"))
    assert on_disk()
    assert taking.outstanding(one.cluster, one) == ()


def test_what_a_running_process_has_taken_is_its_own(one: OneCluster) -> None:
    with taking.taken_away(one.site, EVERY["kube-scheduler"](one)):
        assert taking.pay_back_stale(one.cluster, one, Listener()) == ()
        assert taking.pay_back_stale(one.cluster, one, Listener(), everything=True) == ()
        assert not one.runs("kube-scheduler")


@pytest.mark.parametrize(
    ("change", "runs"),
    [
        ({}, True),
        ({"started": "1"}, False),
        ({"boot": "another"}, False),
        ({"space": "pid:[1]"}, None),
        ({"host": "elsewhere"}, None),
        ({"pid": 2**22 + 1}, False),
    ],
)
def test_whether_a_process_still_runs(change: dict[str, Any], runs: bool | None) -> None:
    assert replace(Process.own(), **change).runs() is runs


def test_where_there_is_no_proc_the_pid_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_started", "_boot", "_space"):
        monkeypatch.setattr(marker, name, lambda *_: "")
    assert Process.own().runs() is True
    assert replace(Process.own(), pid=os.getpid() + 2**22).runs() is False


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "process": {}}', "\x00", "null"]
)
def test_what_is_no_marker_is_none(text: str) -> None:
    assert marker.parse(text) is None


def test_a_marker_reads_as_it_was_written(one: OneCluster) -> None:
    left = leave(one, EVERY["kube-proxy"](one))
    assert marker.parse(left.as_json()) == left


def test_a_second_interrupt_names_the_marker_and_leaves_it(
    one: OneCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    absence = EVERY["kube-scheduler"](one)

    def stopped_again(*_: Any) -> None:
        raise KeyboardInterrupt

    block = taking.taken_away(one.site, absence)
    mark = block.__enter__()
    monkeypatch.setattr(type(absence), "give", stopped_again)
    with pytest.raises(KeyboardInterrupt) as caught:
        leave_by(block, KeyboardInterrupt())
    assert mark.id in str(caught.value)
    assert "`labctl heal one`" in str(caught.value)
    assert [each.id for each in taking.outstanding(one.cluster, one)] == [mark.id]


@pytest.mark.parametrize("which", EVERY)
def test_a_second_interrupt_orders_back_what_it_does_not_wait_for(
    one: OneCluster, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first question of the giving back takes long (a frozen control plane answers nobody): it comes then."""
    before = snapshot(one)
    block = taking.taken_away(one.site, EVERY[which](one))
    mark = block.__enter__()
    asked = False

    def stopped_again(*_: Any, **__: Any) -> Any:
        nonlocal asked
        asked = True
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(taking, "pay_back", stopped_again)
        with pytest.raises(KeyboardInterrupt) as caught:
            leave_by(block, KeyboardInterrupt())
    assert asked
    assert mark.id in str(caught.value)
    assert [each.id for each in taking.outstanding(one.cluster, one)] == [mark.id]
    store.remove(mark, one.cluster, one)
    assert snapshot(one) == before


def test_what_is_ordered_back_asks_no_api_server_first(
    one: OneCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen control plane would let each question wait for its time-out, with the node frozen meanwhile."""
    left = leave(one, EVERY["frozen control plane"](one))
    monkeypatch.setattr(type(one.kube), "raw_get", lambda *_, **__: pytest.fail("asked"))
    taking.order_back(one.site, [left])
    assert one.states[PLANE] == "running"


def test_what_cannot_come_back_is_said_and_its_marker_stays(one: OneCluster) -> None:
    with (
        pytest.raises(CleanupIncomplete) as caught,
        taking.taken_away(one.site, EVERY["kube-scheduler"](one)) as mark,
    ):
        one.path(PLANE, "/etc/kubernetes/labctl-away/kube-scheduler.yaml").unlink()
    assert caught.value.exit_code == 8
    assert mark.id in caught.value.leftovers[0]
    assert len(on_disk()) == 1


def test_an_interrupt_stays_one_when_something_does_not_come_back(one: OneCluster) -> None:
    block = taking.taken_away(one.site, EVERY["kube-scheduler"](one))
    block.__enter__()
    one.path(PLANE, "/etc/kubernetes/labctl-away/kube-scheduler.yaml").unlink()
    with pytest.raises(Terminated) as caught:
        leave_by(block, Terminated())
    assert "labctl heal one" in str(caught.value)


def test_nothing_is_taken_when_the_marker_cannot_be_written(
    one: OneCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(one)

    def refused(*_: Any, **__: Any) -> None:
        raise NodeDown("no")

    monkeypatch.setattr(store, "write", refused)
    with pytest.raises(NodeDown), taking.taken_away(one.site, EVERY["kube-scheduler"](one)):
        raise AssertionError("the block must not be entered")
    assert snapshot(one) == before


def test_the_marker_is_written_first_and_removed_last(one: OneCluster) -> None:
    with taking.taken_away(one.site, EVERY["kube-scheduler"](one)) as mark:
        pass
    name = f"{mark.id}.json"
    assert one.done == [f"{PLANE} {name}", *[f"{PLANE} kube-scheduler.yaml"] * 2, f"{PLANE} {name}"]


def test_several_at_once_are_ordered_before_any_is_awaited(one: OneCluster) -> None:
    """A kubelet is not Ready without an API server; CoreDNS is not scaled without one."""
    before = snapshot(one)
    names = ("CoreDNS", "kubelet", "kube-apiserver")
    left = [leave(one, EVERY[name](one)) for name in names]
    taking.pay_back(one.site, left)
    assert snapshot(one) == before


def test_one_that_stays_away_keeps_no_other_from_coming_back(one: OneCluster) -> None:
    left = [leave(one, EVERY[name](one)) for name in ("kube-scheduler", "CoreDNS")]
    one.path(PLANE, "/etc/kubernetes/labctl-away/kube-scheduler.yaml").unlink()
    with pytest.raises(CleanupIncomplete) as caught:
        taking.pay_back(one.site, left)
    assert len(caught.value.leftovers) == 1
    assert one.kube.spec("deployments", "coredns")["replicas"] == 2


@pytest.mark.parametrize("which", ["kube-scheduler", "kubelet", "CoreDNS", "kube-proxy", "frozen"])
def test_what_is_not_there_cannot_be_taken_away(one: OneCluster, which: str) -> None:
    leave(one, EVERY[which](one))
    before = snapshot(one)
    with (
        pytest.raises(InfrastructureError, match="not there to be taken away"),
        taking.taken_away(one.site, EVERY[which](one)),
    ):
        raise AssertionError("the block must not be entered")
    assert snapshot(one) == before


def test_the_pods_of_a_daemon_set_on_other_nodes_are_left_alone(one: OneCluster) -> None:
    """OnDelete comes with the affinity in one patch: a RollingUpdate would restart every other pod."""
    with taking.taken_away(one.site, EVERY["kube-proxy off one node"](one)):
        assert one.kube.spec("daemonsets", "kube-proxy")["updateStrategy"] == {"type": "OnDelete"}
        assert one.rules[PLANE] == RULES
    assert [len(body) for _, body in one.kube.patched] == [2, 2]


def test_the_rules_are_gone_and_the_masquerading_is_not(one: OneCluster) -> None:
    with taking.taken_away(one.site, EVERY["without rules"](one)):
        assert "-A KUBE-SERVICES" not in one.rules[WORKER]
        assert "-A KUBE-POSTROUTING" in one.rules[WORKER]
        assert one.rules[PLANE] == RULES


def test_every_alternative_of_an_affinity_excludes_the_node() -> None:
    linux = {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}
    key = "requiredDuringSchedulingIgnoredDuringExecution"
    terms: list[dict[str, Any]] = [{"matchExpressions": [linux]}, {"matchFields": [{}]}]
    given = {"nodeAffinity": {key: {"nodeSelectorTerms": terms}}}
    rule = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["a"]}
    made = without(given, ["a"])["nodeAffinity"][key]["nodeSelectorTerms"]
    assert made == [{"matchExpressions": [linux, rule]}, {"matchFields": [{}], "matchExpressions": [rule]}]
    assert terms[0]["matchExpressions"] == [linux]


@pytest.mark.parametrize("name", ["kube-skeduler", "deployment/coredns", "pod/a/b", ""])
def test_a_name_that_means_nothing_is_refused(one: OneCluster, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        known.named(name, one.cluster)
    assert "kube-scheduler" in caught.value.why


def test_any_workload_can_be_spelled_out(one: OneCluster) -> None:
    assert known.named("deployment/kube-system/coredns", one.cluster) == known.named("CoreDNS", one.cluster)
    assert known.named("daemonset/a/b", one.cluster, WORKER).nodes == (WORKER,)


def test_a_lease_given_up_in_good_order_is_no_sign_of_life(
    one: OneCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from labctl.cluster.absence.site import moves

    seen = iter(["a 1", " 2", "b 3"])
    monkeypatch.setattr(type(one.site), "renewed", lambda *_: next(seen))
    look = moves(one.site, "kube-system", "kube-scheduler", "a 1")
    for _ in range(2):
        with pytest.raises(NotYet):
            look()
    look()


def test_the_status_names_what_nobody_is_left_to_give_back(one: OneCluster) -> None:
    left = leave(one, EVERY["kube-scheduler"](one))
    state, said, step, code, _ = status._without([left], "ready", "", "", 0, ())
    assert (state, code, step) == ("not ready", 4, "`labctl heal one` puts it back")
    assert said.startswith("taken away: kube-scheduler, by process")
    its_own = replace(left, process=Process.own())
    assert status._without([its_own], "ready", "", "", 0, ())[0] == "ready"
    assert status._without([], "broken", "why", "do", 7, ()) == ("broken", "why", "do", 7, ())


# --- the gate


def cordon(one: OneCluster) -> None:
    node = one.kube._node(WORKER)
    one.kube._node = lambda name: {**node, "spec": {"unschedulable": True}}  # type: ignore[method-assign]  # a fault


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        (lambda one: one.pause(WORKER), "node one-worker: its container is paused"),
        (lambda one: one.path(PLANE, f"{MANIFESTS}/etcd.yaml").unlink(), "etcd on one-control-plane"),
        (
            lambda one: one.units.update({(WORKER, "kubelet"): "inactive"}),
            "node one-worker: Ready is Unknown",
        ),
        (
            lambda one: one.kube._patch("deployments", "coredns", replicas(0)),
            "deployment kube-system/coredns: 0/0",
        ),
        (cordon, "node one-worker: cordoned"),
        (
            lambda one: leave(one, known.named("CoreDNS", one.cluster)),
            "coredns: taken away: coredns, by process",
        ),
    ],
)
def test_the_gate_names_what_differs(
    one: OneCluster, fault: Callable[[OneCluster], object], named: str
) -> None:
    assert gate(one.site) == ()
    fault(one)
    assert any(named in str(each) for each in gate(one.site)), gate(one.site)


def replicas(count: int) -> list[dict[str, Any]]:
    return [{"op": "replace", "path": "/spec/replicas", "value": count}]


def test_the_gate_waits_for_what_is_coming_back(one: OneCluster) -> None:
    one.lag = 3
    manifest = one.path(PLANE, f"{MANIFESTS}/kube-apiserver.yaml")
    text = manifest.read_text()
    manifest.unlink()
    while one.runs("kube-apiserver"):
        pass
    manifest.write_text(text)
    assert gate(one.site)
    assert gate(one.site, within=20) == ()


# --- beside the API server


def test_a_silent_api_server_is_an_answer(one: OneCluster) -> None:
    assert [each.answered for each in besideapi.api_calls(one, one.cluster)] == [True]
    with taking.taken_away(one.site, EVERY["kube-apiserver"](one)):
        assert [each.silence for each in besideapi.api_calls(one, one.cluster)] == ["connection refused"]
        with pytest.raises(ApiUnreachable):
            cast(Kube, one.kube).version()


def test_a_call_that_did_not_run_is_no_silence(one: OneCluster) -> None:
    one.pause(PLANE)
    with pytest.raises(LabctlError) as caught:
        besideapi.api_calls(one, one.cluster)
    assert caught.value.id == "probe-did-not-run"
