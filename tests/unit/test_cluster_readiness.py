"""The readiness ladder: what it waits for, why it is not there yet, and when it gives up (F26, F27)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from labctl import kubewords
from labctl.cluster import readiness
from labctl.cluster.readiness import Rung
from labctl.cluster.running import Node, RunningCluster
from labctl.cluster.spec import ClusterSpec
from labctl.errors import ApiRefused, ApiUnreachable, DeadlineExceeded, InfrastructureError, NodeDown
from labctl.network.addon import Workload
from labctl.paths import cluster_state
from labctl.progress import Quiet
from labctl.waiting import Deadline, NotYet
from tests.unit.fakes.fleet import Fleet

DAEMONS = Workload("DaemonSet", "net", "agent")
NS = SimpleNamespace


def pod(name: str, *, waiting: str = "", ready: bool = False, init: bool = False, **more: Any) -> Any:
    state = (
        NS(waiting=NS(reason=waiting, message=""), terminated=None)
        if waiting
        else NS(waiting=None, terminated=None)
    )
    one = NS(name="main", image="some/image:v1", state=state, last_state=more.get("last"))
    conditions = [NS(type="Ready", status="True" if ready else "False", message="", reason="")]
    if blocked := more.get("unscheduled"):
        conditions.append(NS(type="PodScheduled", status="False", message=blocked, reason="Unschedulable"))
    return NS(
        metadata=NS(name=name, namespace="net", deletion_timestamp=more.get("deleted")),
        status=NS(
            conditions=conditions,
            init_container_statuses=[one] if init else None,
            container_statuses=None if init else [one],
            phase=more.get("phase", "Pending"),
            message=None,
            reason=None,
        ),
    )


def node(name: str, message: str = "", heard: datetime | None = None) -> Any:
    ready = NS(
        type="Ready",
        status="False" if message else "True",
        message=message,
        reason="",
        last_heartbeat_time=heard,
    )
    return NS(metadata=NS(name=name), status=NS(conditions=[ready]))


class Api:
    """An API server's answers, set by the test."""

    def __init__(self) -> None:
        self.pods: list[Any] = []
        self.nodes: list[Any] = []
        self.desired, self.ready, self.generation = 3, 0, 1
        self.absent = False
        self.core = NS(
            list_namespaced_pod=lambda **_: NS(items=self.pods),
            list_node=lambda **_: NS(items=self.nodes),
            read_namespaced_pod_log=lambda **_: "",
        )
        self.apps = NS(read_namespaced_daemon_set=self._daemons)

    @contextmanager
    def translated(self, doing: str = "") -> Iterator[None]:
        yield

    def _daemons(self, **_: Any) -> Any:
        if self.absent:
            raise ApiRefused("cannot read", status=404, reason="NotFound")
        status = NS(
            desired_number_scheduled=self.desired,
            number_ready=self.ready,
            updated_number_scheduled=self.ready,
            observed_generation=self.generation,
        )
        return NS(
            metadata=NS(generation=1), status=status, spec=NS(selector=NS(match_labels={"app": "agent"}))
        )


@pytest.fixture
def api() -> Any:
    return Api()


def refusal(api: Any) -> str:
    with pytest.raises((NotYet, readiness.Lasting)) as caught:
        readiness.workload(api, DAEMONS)
    return str(caught.value)


def test_a_workload_is_ready_when_all_of_its_newest_version_is(api: Any) -> None:
    api.ready = 3
    assert readiness.workload(api, DAEMONS) == "3/3 ready"
    api.generation = 0
    assert refusal(api).startswith("3/3 ready"), "the controller has not seen the newest version"
    api.generation, api.desired, api.ready = 1, 0, 0
    assert refusal(api).startswith("0/? ready"), "nothing asked for is not ready"


@pytest.mark.parametrize(
    ("pods", "words"),
    [
        ([pod("a", waiting="ImagePullBackOff")], "ImagePullBackOff: some/image:v1 (pod a)"),
        ([pod("a", waiting="ErrImagePull", init=True)], "ErrImagePull: some/image:v1 (pod a)"),
        (
            [pod("a", waiting="ContainerCreating"), pod("b", waiting="ContainerCreating")],
            "(pod a and 1 more)",
        ),
        ([pod("a", unscheduled="0/3 nodes are available")], "no node takes it: 0/3 nodes are available"),
        (
            [pod("a", waiting="CrashLoopBackOff", last=NS(terminated=NS(exit_code=2)))],
            "CrashLoopBackOff: main, last exit code 2",
        ),
        ([pod("a", phase="Running")], "runs, not ready yet"),
        ([pod("a", deleted=datetime.now(UTC))], "is being deleted"),
    ],
)
def test_the_reason_is_the_one_a_person_would_look_for(api: Any, pods: list[Any], words: str) -> None:
    api.pods = pods
    said = refusal(api)
    assert said.startswith("0/3 ready")
    assert words in said


def test_ready_pods_need_no_explanation() -> None:
    assert kubewords.pods([pod("a", ready=True)]).text == ""


def test_a_node_says_its_own_complaint(api: Any) -> None:
    spec = ClusterSpec(name="c")
    api.nodes = [node("c-control-plane"), node("c-worker", "cni plugin not initialized")]
    with pytest.raises(NotYet) as caught:
        readiness._nodes(api, spec.node_names(), {}, ready=True)
    assert str(caught.value) == ("1/3 Ready: c-worker: cni plugin not initialized; not registered: c-worker2")
    api.nodes = [node(name) for name in spec.node_names()]
    assert readiness._nodes(api, spec.node_names(), {}, ready=True) == "3/3 Ready"


# --- climbing


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(readiness, "GONE_PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(readiness, "LOOK_SECONDS", 0.02)


def cluster() -> RunningCluster:
    return RunningCluster(
        "c", cluster_state("c") / "kubeconfig", (Node("c-worker", "worker", "c-worker", ""),)
    )


def climb(look: Any, docker: Fleet | None = None, seconds: float = 20.0) -> None:
    if docker is None:
        docker = Fleet()
        docker.node("c-worker", "c", "worker", None)
    readiness.climb([Rung("x", "the thing", look)], cluster(), Quiet(), Deadline(seconds), docker=docker)


def test_a_lasting_reason_ends_the_wait_long_before_the_deadline(api: Any) -> None:
    words = iter(["ErrImagePull", "ImagePullBackOff"] * 1000)

    def look() -> str:
        api.pods = [pod("a", waiting=next(words))]
        return readiness.workload(api, DAEMONS)

    with pytest.raises(InfrastructureError) as caught:
        climb(look)
    assert caught.value.exit_code == 4
    assert "0/3 ready" in caught.value.why
    assert "some/image:v1" in caught.value.why


def test_a_deleted_workload_ends_the_wait(api: Any) -> None:
    api.absent = True
    with pytest.raises(InfrastructureError, match="does not exist"):
        climb(lambda: readiness.workload(api, DAEMONS))


def test_a_single_look_at_a_lasting_reason_is_one_that_does_not_hold_yet(api: Any) -> None:
    """`labctl status` looks once and has no patience to lose."""
    api.absent = True
    with pytest.raises(NotYet, match="does not exist"):
        readiness.workload(api, DAEMONS)


def test_a_reason_that_passes_is_waited_out(api: Any) -> None:
    looks = 0

    def look() -> str:
        nonlocal looks
        looks += 1
        api.pods = [pod("a", waiting="ErrImagePull" if looks % 2 else "ContainerCreating")]
        api.ready = 3 if looks > 8 else 0
        return readiness.workload(api, DAEMONS)

    climb(look)
    assert looks == 9


def test_time_over_is_a_failure_with_the_last_observation() -> None:
    def look() -> str:
        raise NotYet("1/3 ready")

    with pytest.raises(DeadlineExceeded) as caught:
        climb(look, seconds=0.2)
    assert caught.value.exit_code == 5
    assert caught.value.last == "1/3 ready"


def test_docker_is_asked_before_a_silent_api_server_is_waited_for() -> None:
    docker = Fleet()
    docker.node("c-worker", "c", "worker", None, "exited")

    def look() -> str:
        raise ApiUnreachable("cannot list", why="connection refused")

    with pytest.raises(NodeDown) as caught:
        climb(look, docker)
    assert "container c-worker exited" in caught.value.why


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        (ClusterSpec(), "api proxy cni nodes dns lb"),
        (ClusterSpec(load_balancer="none"), "api proxy cni nodes dns"),
        (ClusterSpec(cni="none", load_balancer="none"), "api proxy nodes"),
        (
            ClusterSpec(cni="none", load_balancer="none", kind={"networking": {"kubeProxyMode": "none"}}),
            "api nodes",
        ),
        (ClusterSpec(cni="tomorrow", load_balancer="tomorrow"), "api proxy nodes dns"),
    ],
)
def test_the_ladder_follows_the_spec(api: Any, spec: ClusterSpec, names: str) -> None:
    rungs = readiness.ladder(spec, api)
    assert [rung.name for rung in rungs] == names.split()
    assert ("Ready" in next(rung.title for rung in rungs if rung.name == "nodes")) == ("dns" in names)


def test_of_another_s_cluster_only_its_nodes_are_asked(api: Any) -> None:
    api.nodes = [node("c-worker")]
    rungs = readiness.unknown(cluster(), api)
    assert [rung.name for rung in rungs] == ["api", "nodes"]
    assert rungs[1].look() == "1/1 Ready"


def test_what_a_node_said_before_it_was_started_counts_for_nothing(api: Any) -> None:
    started = {"c-worker": datetime(2026, 1, 1, 12, 0, 5, 700_000, UTC)}
    api.nodes = [node("c-worker", heard=datetime(2026, 1, 1, 12, 0, 4, tzinfo=UTC))]
    with pytest.raises(NotYet, match="c-worker: started anew, has not reported since"):
        readiness._nodes(api, ["c-worker"], started, ready=True)
    api.nodes = [node("c-worker", heard=datetime(2026, 1, 1, 12, 0, 5, tzinfo=UTC))]
    assert readiness._nodes(api, ["c-worker"], started, ready=True) == "1/1 Ready"
    api.nodes = [node("c-worker", "no CNI", heard=datetime(2026, 1, 1, 12, 0, 9, tzinfo=UTC))]
    with pytest.raises(NotYet, match="no CNI"):
        readiness._nodes(api, ["c-worker"], started, ready=True)


def test_a_pod_counts_when_it_runs_since_its_node_was_started(api: Any) -> None:
    """Right after a stop and a start the API server still says of every pod that it is ready."""
    started = {"c-worker": datetime(2026, 1, 1, 12, 0, 5, 700_000, UTC)}
    api.ready = 3
    one = pod("a", ready=True)
    one.spec = NS(node_name="c-worker")
    container = one.status.container_statuses[0]
    api.pods = [one]
    container.state = NS(
        waiting=None, terminated=None, running=NS(started_at=datetime(2026, 1, 1, 11, tzinfo=UTC))
    )
    with pytest.raises(NotYet, match="not started again since its node was: a"):
        readiness.workload(api, DAEMONS, started)
    assert readiness.workload(api, DAEMONS) == "3/3 ready", "where nobody knows when the nodes were started"
    container.state.running.started_at = datetime(2026, 1, 1, 12, 0, 7, tzinfo=UTC)
    assert readiness.workload(api, DAEMONS, started) == "3/3 ready"


def test_a_program_that_keeps_failing_is_quoted(api: Any) -> None:
    """`kubeProxyMode: ipvs` on a machine without it: the reason stands in kube-proxy's own log."""
    crashed = pod("kube-proxy-x", waiting="CrashLoopBackOff", last=NS(terminated=NS(exit_code=1)))
    api.pods, asked = [crashed], []

    def log(**of: Any) -> str:
        asked.append(of)
        return (
            'I1 starting\nE1128 10:00:00.0 1 run.go:72] "Error running ProxyServer" err="no ipvs"\nI1 bye\n'
        )

    api.core.read_namespaced_pod_log = log
    with pytest.raises(readiness.Lasting) as caught:
        readiness.workload(api, DAEMONS)
    assert 'err="no ipvs"' in str(caught.value)
    assert "last exit code 1" in str(caught.value)
    assert asked[0]["previous"]
    assert asked[0]["container"] == "main"
