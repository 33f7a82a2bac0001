"""`labctl heal`: what it does, in which order, and when it must not call a cluster well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labctl.cli.main import _run
from labctl.cluster import heal as heal_module
from labctl.cluster import journal
from labctl.cluster.absence import store, taking
from labctl.cluster.absence.onnodes import FrozenNode
from labctl.cluster.heal import Healed, HealStep, heal
from labctl.cluster.proof import ProofResult, Proven
from labctl.cluster.spec import ClusterSpec
from labctl.console import Console
from labctl.errors import Conflict, InfrastructureError, ProofFailed, StateUnusable
from labctl.waiting import pause
from tests.unit.fakes.apiserver import Listener
from tests.unit.fakes.fleet import Fleet
from tests.unit.fakes.onecluster import PLANE, OneCluster
from tests.unit.test_absence import EVERY, leave, snapshot

WORKER = "one-worker"
HELD = ProofResult((Proven("pods", "pod to pod", True, "2 of 2", "2 of 2"),), "n0nce", 1.0)
FAILED = ProofResult((Proven("pods", "pod to pod", False, "2 of 2", "0 of 2"),), "n0nce", 1.0)


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OneCluster:
    """The ladder and the proof have tests of their own; here they are one rung and one proof that hold."""
    made = OneCluster(tmp_path / "nodes")
    monkeypatch.setattr("labctl.waiting.pause", lambda seconds: pause(min(seconds, 0.002)))
    monkeypatch.setattr(taking, "connect", lambda *_: made.kube)
    monkeypatch.setattr(heal_module, "connect", lambda *_: made.kube)
    monkeypatch.setattr("labctl.cluster.running.find", lambda *_, **__: made.cluster)
    monkeypatch.setattr(heal_module, "_spec", lambda *_: ClusterSpec("one", workers=1))
    monkeypatch.setattr("labctl.cluster.readiness.ladder", lambda *_: ())
    monkeypatch.setattr("labctl.cluster.formerproofs.sweep", lambda _: ())
    monkeypatch.setattr("labctl.cluster.proof.prove", lambda *_: HELD)
    monkeypatch.setattr("labctl.cluster.formerproofs.sweep", lambda _: ())
    return made


def outcomes(done: Healed) -> list[str]:
    return [each.outcome for each in done.steps]


def test_nothing_to_heal_is_said_and_proven(one: OneCluster) -> None:
    before = snapshot(one)
    done = heal("one", Listener(), docker=one)
    assert not done.changed
    assert outcomes(done)[:2] == ["nothing to do", "nothing to do"]
    assert done.proof is HELD
    assert snapshot(one) == before
    assert one.done == []


@pytest.mark.parametrize(
    "which", ["kube-apiserver", "kube-scheduler", "kubelet", "CoreDNS", "frozen", "stopped"]
)
def test_what_a_killed_process_left_is_healed(one: OneCluster, which: str) -> None:
    before = snapshot(one)
    left = leave(one, EVERY[which](one))
    done = heal("one", Listener(), docker=one)
    assert done.changed
    assert left.title in outcomes(done)[1]
    assert snapshot(one) == before
    assert not heal("one", Listener(), docker=one).changed


@pytest.mark.parametrize("state", ["paused", "exited", "created"])
def test_a_node_that_sleeps_without_any_marker_is_woken(one: OneCluster, state: str) -> None:
    one.states[PLANE] = one.states[WORKER] = state
    done = heal("one", Listener(), docker=one)
    assert done.changed
    assert set(one.states.values()) == {"running"}
    assert "one-worker" in outcomes(done)[0]


def test_a_marker_of_another_machine_is_paid_back_too(one: OneCluster) -> None:
    left = leave(one, EVERY["CoreDNS"](one))
    elsewhere = json.loads(left.as_json())
    elsewhere["process"]["host"] = "elsewhere"
    store.directory("one").joinpath(f"{left.id}.json").unlink()
    one.path(PLANE, f"{store.ON_NODE}/{left.id}.json").write_text(json.dumps(elsewhere))
    assert taking.pay_back_stale(one.cluster, one, Listener()) == ()
    assert heal("one", Listener(), docker=one).changed
    assert one.kube.spec("deployments", "coredns")["replicas"] == 2


def test_it_is_not_well_while_something_differs(one: OneCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heal_module, "SETTLED_SECONDS", 0.01)
    one.kube._patch("deployments", "coredns", [{"op": "replace", "path": "/spec/replicas", "value": 0}])
    with pytest.raises(InfrastructureError, match="coredns: 0/0") as caught:
        heal("one", Listener(), docker=one)
    assert caught.value.exit_code == 4


def test_it_is_not_well_when_the_proof_fails(one: OneCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.cluster.proof.prove", lambda *_: FAILED)
    with pytest.raises(ProofFailed) as caught:
        heal("one", Listener(), docker=one)
    assert caught.value.exit_code == 4


def test_what_does_not_come_back_is_exit_code_8(one: OneCluster) -> None:
    leave(one, EVERY["kube-scheduler"](one))
    one.path(PLANE, "/etc/kubernetes/labctl-away/kube-scheduler.yaml").unlink()
    with pytest.raises(Exception, match="could not be put back") as caught:
        heal("one", Listener(), docker=one)
    assert getattr(caught.value, "exit_code", 0) == 8


# --- what no healing brings back


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    return Fleet()


def test_nodes_that_are_gone_are_named(fleet: Fleet) -> None:
    fleet.cluster(ClusterSpec(name="c", workers=2), state="exited")
    del fleet.there["c-worker2"]
    with pytest.raises(StateUnusable, match="c-worker2") as caught:
        heal("c", Listener(), docker=fleet)
    assert caught.value.exit_code == 7
    assert "--replace" in caught.value.next_step


def test_a_cluster_of_plain_kind_is_not_touched(fleet: Fleet) -> None:
    fleet.cluster(ClusterSpec(name="c"), ours=False, state="paused")
    with pytest.raises(Conflict):
        heal("c", Listener(), docker=fleet)


def test_a_bring_up_that_did_not_end_is_not_healed(fleet: Fleet) -> None:
    mark = fleet.cluster(ClusterSpec(name="c"), state="exited")
    assert mark.spec is not None
    journal.write(
        journal.Journal("c", mark.owner, "nodes", mark.spec, 1, "labctl up c", "2026-01-01T00:00:00")
    )
    with pytest.raises(StateUnusable, match="nodes"):
        heal("c", Listener(), docker=fleet)


# --- the command


def test_the_command_prints_what_was_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = (HealStep("Every node's container runs", "c-worker went on", 1.25),)
    done = Healed("c", True, steps, "v1.37.2", HELD, 12.3)
    monkeypatch.setattr(heal_module, "heal", lambda *_, **__: done)
    assert _run(["heal", "c"], Console()) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[0] == "cluster c: healed, network proven, 12 s"
    assert "Every node's container runs: c-worker went on (1.2 s)" in said
    assert _run(["heal", "c", "-o", "json"], Console()) == 0
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert list(data) == ["name", "changed", "steps", "kubernetes", "proof", "seconds"]
    assert list(data["steps"][0]) == ["title", "outcome", "seconds"]


def test_a_frozen_node_is_its_own_absence() -> None:
    assert FrozenNode(WORKER, (WORKER,)).down == {WORKER}
