"""The proof of a cluster's network: it believes only answers that carry its nonce."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.cluster import proof
from labctl.cluster.proof import ProofResult, Proven, stage
from labctl.cluster.running import Node, RunningCluster
from labctl.errors import ApiRefused, ApiUnreachable, DeadlineExceeded, InfrastructureError, ProofFailed
from labctl.probe import NONCE_LABEL
from labctl.probe.answers import Dialled
from labctl.probe.outside import OutsideProbe
from labctl.progress import Quiet

NS = SimpleNamespace
NODES = ("cp", "w1", "w2")
POOL = "172.18.254.224-172.18.254.255"


def cluster(balancer: str = "metallb", nodes: tuple[str, ...] = NODES) -> RunningCluster:
    found = tuple(Node(name, "control-plane" if name == "cp" else "worker", name, "") for name in nodes)
    pool = POOL if balancer == "metallb" else ""
    return RunningCluster("c", Path("kubeconfig"), found, "flannel", balancer, pool)


class World:
    """A cluster's API and data plane in memory; the test breaks what it wants."""

    def __init__(self, nodes: tuple[str, ...] = NODES) -> None:
        self.nodes = nodes
        self.cut: set[tuple[str, str]] = set()
        self.dead_backends: set[str] = set()
        self.no_dns: set[str] = set()
        self.impostor = False
        self.waiting = ""
        self.address = "172.18.254.225"
        self.created: list[str] = []
        self.deleted: list[str] = []
        self.bodies: list[Any] = []
        self.asked = 0
        self.nonce = ""
        self.core = NS(
            create_namespace=self._namespace,
            delete_namespace=lambda name: self.deleted.append(name),
            create_namespaced_service=self._service,
            list_namespaced_pod=self._pods,
            read_namespaced_service=lambda **_: NS(
                status=NS(load_balancer=NS(ingress=[NS(ip=self.address)] if self.address else None))
            ),
        )
        self.apps = NS(create_namespaced_daemon_set=lambda **kw: self.bodies.append(kw["body"]))

    @contextmanager
    def translated(self, doing: str = "") -> Iterator[None]:
        yield

    def _namespace(self, body: Any) -> None:
        name = body["metadata"]["name"]
        assert body["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
        self.created.append(name)
        self.nonce = name.removeprefix(stage.NAMESPACE_PREFIX)

    def _service(self, namespace: str, body: Any) -> Any:
        return NS(spec=NS(cluster_ip="10.96.1.1"))

    def _pods(self, **_: Any) -> Any:
        state = NS(waiting=NS(reason=self.waiting), terminated=None)
        one = NS(name="probe", image="agnhost", state=state, last_state=None)
        ready = NS(type="Ready", status="False" if self.waiting else "True")
        return NS(
            items=[
                NS(
                    metadata=NS(name=f"peer-{name}", deletion_timestamp=None),
                    spec=NS(node_name=name),
                    status=NS(
                        pod_ip=f"ip-{name}", conditions=[ready], container_statuses=[one],
                        init_container_statuses=None, phase="Pending", message=None, reason=None,
                    ),
                )
                for name in self.nodes
            ]
        )  # fmt: skip

    def pod_get(self, namespace: str, pod: str, *, query: Mapping[str, Any], **_: Any) -> str:
        source, host = pod.removeprefix("peer-"), str(query["host"])
        if host.startswith("ip-"):
            target = host.removeprefix("ip-")
            if (source, target) in self.cut:
                return json.dumps({"errors": ["i/o timeout"]})
            return self._answer([target])
        if host.endswith("svc.cluster.local") and source in self.no_dns:
            raise ApiRefused("x", status=400, reason="BadRequest", why="lookup: no such host")
        living = [name for name in self.nodes if name not in self.dead_backends]
        self.asked += 1
        return self._answer([living[(self.asked + at) % len(living)] for at in range(int(query["tries"]))])

    def _answer(self, names: list[str]) -> str:
        mark = "another" if self.impostor else self.nonce
        return json.dumps({"responses": [f"peer-{name}/{mark}" for name in names]})


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(proof, "EACH_SECONDS", 0.2)
    monkeypatch.setattr(stage, "PODS_SECONDS", 0.3)
    monkeypatch.setattr("sys.platform", "linux")
    made = World()
    monkeypatch.setattr(OutsideProbe, "dial", lambda *_, **__: Dialled("lb", (f"peer-w1/{made.nonce}",)))
    return made


def prove(world: Any, of: RunningCluster | None = None) -> ProofResult:
    return proof.prove(of or cluster(), world, Quiet())


def outcome(result: ProofResult) -> dict[str, bool | None]:
    return {one.id: one.held for one in result.proofs}


def test_a_network_that_works_is_proven_and_everything_is_deleted(world: World) -> None:
    result = prove(world)
    assert outcome(result) == {"pods": True, "service": True, "dns": True, "load-balancer": True}
    assert proof.require(result) is result
    assert next(one for one in result.proofs if one.id == "pods").actual == "6 of 6"
    assert world.deleted == world.created
    assert result.nonce == world.nonce


def test_the_nonce_is_another_one_each_time(world: World) -> None:
    assert prove(world).nonce != prove(world).nonce


@pytest.mark.parametrize(
    ("what", "value", "fails", "words"),
    [
        ("cut", {("w1", "w2")}, {"pods"}, "w1 -> w2: i/o timeout"),
        ("dead_backends", {"w2"}, {"service"}, "no answer yet from the backend on w2"),
        ("no_dns", {"cp"}, {"dns"}, "cp: lookup: no such host"),
        ("impostor", True, {"pods", "service", "dns"}, "another"),
        ("address", "", {"load-balancer"}, "no external address"),
        ("address", "10.0.0.1", {"load-balancer"}, "not of the pool"),
    ],
)
def test_what_is_broken_fails_its_own_proof(
    world: World, what: str, value: Any, fails: set[str], words: str
) -> None:
    setattr(world, what, value)
    result = prove(world)
    assert {name for name, held in outcome(result).items() if held is False} == fails
    with pytest.raises(ProofFailed) as caught:
        proof.require(result)
    assert caught.value.exit_code == 4
    assert words in caught.value.details
    assert world.deleted == world.created


def test_an_answer_that_is_slow_once_is_asked_for_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = ["a read time-out"]
    answers = world.pod_get

    def pod_get(*of: Any, **more: Any) -> str:
        if slow:
            raise ApiUnreachable("cannot ask", why=slow.pop())
        return answers(*of, **more)

    monkeypatch.setattr(world, "pod_get", pod_get)
    assert prove(world).held


def test_an_api_that_is_gone_fails_the_proofs_with_its_reason(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pod_get(*_: Any, **__: Any) -> str:
        raise ApiUnreachable("cannot ask", why="connection refused")

    monkeypatch.setattr(world, "pod_get", pod_get)
    result = prove(world)
    assert [one.id for one in result.proofs if one.held] == ["load-balancer"]
    assert all("connection refused" in one.actual for one in result.proofs if not one.held)


def test_an_address_that_somebody_else_answers_on_does_not_count(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OutsideProbe, "dial", lambda *_, **__: Dialled("lb", ("peer-w1/forged",)))
    assert outcome(prove(world))["load-balancer"] is False


def test_without_a_load_balancer_that_proof_is_not_made_and_said(world: World) -> None:
    result = prove(world, cluster("none"))
    assert outcome(result)["load-balancer"] is None
    assert result.held


def test_a_single_node_is_proven_by_itself(world: World) -> None:
    world.nodes = ("cp",)
    result = prove(world, cluster("none", nodes=("cp",)))
    assert outcome(result)["pods"] is True
    assert result.held


def test_nothing_proven_is_not_held() -> None:
    assert not ProofResult((), "n", 0.0).held
    assert not ProofResult((Proven("a", "a", None, "-", "-"),), "n", 0.0).held


def test_pods_that_cannot_start_end_it_early_and_are_deleted(world: World) -> None:
    world.waiting = "ImagePullBackOff"
    with pytest.raises(InfrastructureError, match="0/3 ready"):
        prove(world)
    assert world.deleted == world.created


def test_a_first_attempt_at_an_image_is_waited_for(world: World) -> None:
    world.waiting = "ErrImagePull"
    with pytest.raises(DeadlineExceeded, match="0/3 ready"):
        prove(world)
    assert world.deleted == world.created


def test_the_pods_meet_the_restricted_standard_and_hold_no_token(world: World) -> None:
    prove(world)
    template = world.bodies[0].spec.template
    assert template.spec.automount_service_account_token is False
    assert template.spec.security_context.run_as_non_root is True
    container = template.spec.containers[0].security_context
    assert (container.allow_privilege_escalation, container.capabilities.drop) == (False, ["ALL"])
    assert template.metadata.labels[NONCE_LABEL] == world.nonce
