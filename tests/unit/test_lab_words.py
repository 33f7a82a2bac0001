"""The authors' words: what each says is true, and what makes it raise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import pytest
from kubernetes.client import (
    V1ConfigMap,
    V1Endpoint,
    V1EndpointConditions,
    V1EndpointSlice,
    V1LoadBalancerIngress,
    V1LoadBalancerStatus,
    V1Namespace,
    V1NodeSpec,
    V1ObjectMeta,
    V1OwnerReference,
    V1PodCondition,
    V1PodStatus,
    V1ServiceStatus,
)

from labctl.kube import Kube
from labctl.lab import CheckFailed, Cluster, Hopeless, Unmet, advice, on_every_node, pod, ready, service
from labctl.lab.callers import Call
from labctl.lab.handle import MEMORY
from labctl.lab.instance import Instance
from labctl.probe.answers import Dialled
from labctl.probe.patient import keep_calling
from labctl.process import Completed
from labctl.waiting import NotYet, pause, until
from tests.unit.fakes.apiserver import FakeKube, running

NONCE = "n1"


def dialled(*answers: str, refusals: tuple[str, ...] = (), unnamed: int = 0) -> Dialled:
    return Dialled("http://10.0.0.1:80/x", answers, refusals, unnamed)


def call(seen: Dialled) -> Call:
    return Call("pod lab12/client", seen, NONCE)


REFUSED = dialled(refusals=("dial tcp: connect: connection refused",))
SILENT = dialled(refusals=("no answer within 3 s",))
BOTH = dialled("a/n1", "b/n1", "a/n1")
PARTLY = dialled("a/n1", refusals=("no answer within 3 s",))
UNNAMED = dialled(refusals=("i/o timeout",), unnamed=2)
FOREIGN = dialled("a/n1", "b/other")

AB: Callable[[Call], None] = lambda one: one.answered_by(["a", "b"])  # noqa: E731  # a row of a table


@pytest.mark.parametrize(
    ("word", "holds", "fails"),
    [
        (AB, [BOTH], [dialled("a/n1"), dialled("a/n1", "b/n1", "c/n1"), PARTLY, REFUSED, UNNAMED]),
        (lambda one: one.answered_by("a"), [dialled("a/n1", "a/n1")], [BOTH, dialled("a"), dialled("")]),
        (lambda one: one.answered_by(pod("a")), [dialled("a/n1")], [BOTH]),
        (lambda one: one.answered_by([]), [], [BOTH, REFUSED, dialled()]),
        (lambda one: one.answered_by_some_of(["a", "b"]), [BOTH, dialled("b/n1")], [dialled("c/n1"), PARTLY]),
        (lambda one: one.answered_by_some_of([]), [], [REFUSED, BOTH]),
        (lambda one: one.answered_with("x"), [dialled("x", "x")], [dialled("x", "y"), REFUSED]),
        (lambda one: one.not_answered_with("x"), [dialled("y"), SILENT], [dialled("x"), UNNAMED]),
        (lambda one: one.refused(), [REFUSED], [SILENT, BOTH, PARTLY, UNNAMED]),
        (lambda one: one.silent(), [SILENT, REFUSED], [BOTH, PARTLY, UNNAMED]),
        (lambda one: one.reaches_none_of(["a"]), [SILENT, dialled("b/n1")], [BOTH, PARTLY, UNNAMED]),
    ],
)
def test_what_is_said_of_a_call(
    word: Callable[[Call], None], holds: list[Dialled], fails: list[Dialled]
) -> None:
    for seen in holds:
        word(call(seen))
    for seen in fails:
        with pytest.raises(CheckFailed):
            word(call(seen))


def test_pods_of_another_run_are_the_end_of_the_wait() -> None:
    with pytest.raises(Hopeless, match="b/other"):
        AB(call(FOREIGN))


def test_a_failed_call_tells_who_called_whom_and_what_came() -> None:
    with pytest.raises(CheckFailed) as caught:
        call(REFUSED).answered_by("a")
    assert caught.value.seen == (
        "pod lab12/client called http://10.0.0.1:80/x: nobody answered (dial tcp: connect: connection refused)"
    )
    assert caught.value.expected == "a/n1 and nobody else"


# --- somebody who goes on calling


def test_the_longest_silence_is_seen_by_who_goes_on_calling() -> None:
    answers: Iterator[Dialled] = iter([BOTH, BOTH, SILENT, SILENT, SILENT, *[BOTH] * 500])
    with keep_calling(lambda: next(answers), every=0.05) as hearing:
        until(lambda: _heard(hearing, 4), what="four answers", within=10, every=0.01)
    assert hearing.in_vain == 3
    assert 0.15 <= hearing.longest_silence < 5
    assert "3 in vain" in str(hearing)


def test_silence_at_the_end_counts_too() -> None:
    with keep_calling(lambda: SILENT, every=0.01) as hearing:
        pause(0.1)
        assert hearing.longest_silence >= 0.1


def test_a_caller_that_breaks_says_so() -> None:
    def broken() -> Dialled:
        raise RuntimeError("no descriptor left")

    with keep_calling(broken, every=0.01) as hearing:
        until(lambda: _broken(hearing), what="the end", within=10, every=0.01)
        with pytest.raises(RuntimeError, match="descriptor"):
            _ = hearing.longest_silence


def _heard(hearing: Any, wanted: int) -> None:
    if len(hearing.answered) < wanted:
        raise NotYet(str(len(hearing.answered)))


def _broken(hearing: Any) -> None:
    if hearing.failure is None:
        raise NotYet("it goes on")


# --- the handle's words


@pytest.fixture
def kube() -> FakeKube:
    made = FakeKube()
    made.add("namespace", "", V1Namespace(metadata=V1ObjectMeta(name="lab12")))
    made.add("config_map", "lab12", V1ConfigMap(metadata=V1ObjectMeta(name=MEMORY)))
    return made


@pytest.fixture
def k8s(kube: FakeKube) -> Cluster:
    return Cluster(cast(Kube, kube), running(), Instance(12, "12-clusterip", nonce=NONCE))


def add_pod(
    kube: FakeKube, name: str, app: str, *, node: str = "", owner: str = "", kind: str = "ReplicaSet"
) -> Any:
    body = pod(name, app=app)
    assert body.metadata and body.spec
    body.spec.node_name = node or None
    body.status = V1PodStatus(
        phase="Running",
        pod_ip=f"10.0.0.{len(kube.objects)}",
        conditions=[V1PodCondition(type="Ready", status="True")],
    )
    if owner:
        reference = V1OwnerReference(api_version="apps/v1", kind=kind, name=owner, uid="u")
        body.metadata.owner_references = [reference]
    return kube.add("pod", "lab12", body)


def test_a_stranger_with_the_label_is_not_made_by_the_deployment(kube: FakeKube, k8s: Cluster) -> None:
    add_pod(kube, "web-5d8f-a", "web", owner="web-5d8f")
    add_pod(kube, "web-more-5d8f-a", "web", owner="web-more-5d8f")
    add_pod(kube, "stranger", "web")
    assert [one.metadata.name for one in k8s.pods("web", made_by="web")] == ["web-5d8f-a"]
    assert len(k8s.pods("web")) == 3
    with pytest.raises(CheckFailed, match="3 pod"):
        k8s.some_pods("web", count=2)
    with pytest.raises(CheckFailed, match="0 pod"):
        k8s.some_pods("wbe")


def test_a_client_is_missing_on_a_node(kube: FakeKube, k8s: Cluster) -> None:
    for name in ("one-control-plane", "one-worker"):
        add_pod(kube, f"client-{name}", "client", node=name, owner="client", kind="DaemonSet")
    with pytest.raises(CheckFailed, match="on one-worker2"):
        k8s.one_on_each_node("client")
    add_pod(kube, "client-x", "client", node="one-worker2")
    assert [one.pod for one in k8s.one_on_each_node("client")] == [
        "client-one-control-plane", "client-one-worker", "client-x"
    ]  # fmt: skip
    assert k8s.one_of("client").pod == "client-one-control-plane"


@pytest.mark.parametrize(
    ("cni", "address", "refused"),
    [
        ("flannel", "10.244.1.9", ""),
        ("flannel", "10.99.1.9", "one of one-worker's range 10.244.1.0/24"),
        ("a-plugin-with-ranges-of-its-own", "10.99.1.9", ""),
        ("flannel", "127.0.0.1", "an address that no node has"),
        ("a-plugin-with-ranges-of-its-own", "127.0.0.1", "an address that no node has"),
    ],
)
def test_a_pods_address_is_of_its_nodes_range_where_the_plugin_uses_it(
    kube: FakeKube, cni: str, address: str, refused: str
) -> None:
    k8s = Cluster(cast(Kube, kube), replace(running(), cni=cni), Instance(12, "12-clusterip", nonce=NONCE))
    kube.objects["node", "", "one-worker"].spec = V1NodeSpec(pod_cidrs=["10.244.1.0/24"])
    add_pod(kube, "anna", "anna", node="one-worker").status.pod_ip = address
    if not refused:
        k8s.expect_a_pods_address("anna")
        return
    with pytest.raises(CheckFailed) as failed:
        k8s.expect_a_pods_address("anna")
    assert failed.value.expected == refused


def test_then_and_now(k8s: Cluster) -> None:
    k8s.remember(address="10.96.0.9", pods=["a", "b"])
    k8s.expect_same("address", "10.96.0.9")
    k8s.expect_none_of("pods", ["c"])
    broken: Callable[[], object]
    for broken in (
        lambda: k8s.expect_same("address", "10.96.0.8"),
        lambda: k8s.expect_none_of("pods", ["b", "c"]),
        lambda: k8s.expect_none_of("pods", []),
        lambda: k8s.expect_same("never", 1),
    ):
        with pytest.raises(CheckFailed):
            broken()


def test_a_service_without_an_address_has_none(kube: FakeKube, k8s: Cluster) -> None:
    for name, address in (("web", "10.96.0.9"), ("headless", "None"), ("new", None)):
        body = service(name)
        assert body.spec
        body.spec.cluster_ip, body.status = address, V1ServiceStatus()
        kube.add("service", "lab12", body)
    assert k8s.address_of("web") == "10.96.0.9"
    assert k8s.dns_name("web") == "web.lab12.svc.cluster.local"
    k8s.expect_no_outside_address("web")
    ask: Callable[[], object]
    for ask in (
        lambda: k8s.address_of("headless"),
        lambda: k8s.address_of("new"),
        lambda: k8s.outside_address_of("web"),
        lambda: k8s.node_port_of("web"),
    ):
        with pytest.raises(CheckFailed):
            ask()


def test_a_service_with_an_outside_address(kube: FakeKube, k8s: Cluster) -> None:
    body = service("front", kind="LoadBalancer", node_port=30123)
    body.status = V1ServiceStatus(
        load_balancer=V1LoadBalancerStatus(ingress=[V1LoadBalancerIngress(ip="172.18.9.1")])
    )
    kube.add("service", "lab12", body)
    assert (k8s.outside_address_of("front"), k8s.node_port_of("front")) == ("172.18.9.1", 30123)
    assert k8s.node_ports() == {30123}
    with pytest.raises(CheckFailed, match=r"172\.18\.9\.1"):
        k8s.expect_no_outside_address("front")


def test_endpoints_are_the_ready_ones(kube: FakeKube, k8s: Cluster) -> None:
    here, there = add_pod(kube, "a", "web"), add_pod(kube, "b", "web")
    endpoints = [
        V1Endpoint(addresses=[one.status.pod_ip], conditions=V1EndpointConditions(ready=one is here))
        for one in (here, there)
    ]
    labels = {"kubernetes.io/service-name": "web"}
    piece = V1EndpointSlice(
        metadata=V1ObjectMeta(name="web-1", labels=labels), address_type="IPv4", endpoints=endpoints
    )
    kube.add("endpoint_slice", "lab12", piece)
    k8s.expect_endpoints("web", [here])
    for wrong in ([here, there], [there], []):
        with pytest.raises(CheckFailed):
            k8s.expect_endpoints("web", wrong)


def test_one_worker_has_no_other(kube: FakeKube) -> None:
    alone = Cluster(cast(Kube, kube), running(workers=1), Instance(12, "12-clusterip"))
    with pytest.raises(Unmet):
        alone.another_worker("one-worker")


# --- conditions and advice


def test_ready_means_so_many_and_all_of_them(kube: FakeKube, k8s: Cluster) -> None:
    with pytest.raises(CheckFailed):
        ready("web")(k8s)
    first = add_pod(kube, "a", "web")
    ready("web")(k8s)
    ready("web", 1)(k8s)
    with pytest.raises(CheckFailed):
        ready("web", 2)(k8s)
    with pytest.raises(CheckFailed):
        ready("web", on_each_node=True)(k8s)
    first.status.conditions[0].status = "False"
    with pytest.raises(CheckFailed, match="runs, not ready yet"):
        ready("web", 1)(k8s)
    first.status.phase = "Failed"
    with pytest.raises(Hopeless):
        ready("web", 1)(k8s)


def test_where_nobody_runs_kube_proxy_it_is_no_advice(kube: FakeKube, k8s: Cluster) -> None:
    assert advice.kube_proxy(k8s) is None
    kube.add("daemon_set", "kube-system", on_every_node("kube-proxy"))
    assert "one-control-plane, one-worker, one-worker2" in str(advice.kube_proxy(k8s))


def test_a_service_that_selects_nobody_is_told(kube: FakeKube, k8s: Cluster) -> None:
    assert "no Service web" in str(advice.endpoints("web")(k8s))
    kube.add("service", "lab12", service("web", app="wbe"))
    add_pod(kube, "a", "web")
    told = str(advice.endpoints("web")(k8s))
    assert "selector is app=wbe" in told and "app=web" in told


def test_missing_pods_are_named(kube: FakeKube, k8s: Cluster) -> None:
    add_pod(kube, "anna", "anna")
    assert "missing: bert" in str(advice.pods_exist("anna", "bert")(k8s))
    assert advice.pods_exist("anna")(k8s) is None


def test_silent_dns_is_told(kube: FakeKube, k8s: Cluster) -> None:
    assert "CoreDNS has 0 pod(s)" in str(advice.dns(k8s))


class MemoryNode:
    """A node's directory as far as `shared_room` sees it: a mount point is busy, as rm(1) finds it."""

    def __init__(self) -> None:
        self.directories: set[str] = set()
        self.mounted: set[str] = set()

    def run(self, argv: list[str]) -> Completed:
        program, path = argv[0], argv[-1]
        code = 0
        if program == "mkdir":
            self.directories.add(path)
        elif program == "mountpoint":
            code = 0 if path in self.mounted else 32
        elif program == "umount":
            self.mounted.remove(path)
        elif path in self.mounted:
            code = 1
        else:
            self.directories.discard(path)
        return Completed(tuple(argv), code, "", "Device or resource busy" if code else "", 0.0)

    def output(self, argv: list[str]) -> str:
        done = self.run(argv)
        assert done.ok, f"{argv}: {done.stderr}"
        return done.stdout


@pytest.mark.parametrize("mounted_over", [False, True])
def test_a_shared_room_is_gone_also_where_a_fault_was_mounted_over_it(
    k8s: Cluster, monkeypatch: pytest.MonkeyPatch, mounted_over: bool
) -> None:
    node = MemoryNode()
    monkeypatch.setattr(k8s, "node", lambda _: node)
    monkeypatch.setattr(k8s, "shared_directory", lambda: "/srv/shared")
    with k8s.shared_room() as path:
        assert node.directories == {path} and path.startswith("/srv/shared/")
        if mounted_over:
            node.mounted.add(path)
    assert (node.directories, node.mounted) == (set(), set())


def test_a_shared_room_that_cannot_be_removed_is_not_passed_over(
    k8s: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = MemoryNode()
    monkeypatch.setattr(k8s, "node", lambda _: node)
    monkeypatch.setattr(k8s, "shared_directory", lambda: "/srv/shared")
    with pytest.raises(AssertionError, match="busy"), k8s.shared_room() as path:  # noqa: PT012  # the block is it
        monkeypatch.setattr(node, "run", lambda argv: Completed(tuple(argv), 1, "", "busy", 0.0))
        assert path
