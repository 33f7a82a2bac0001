"""The readiness ladder: what must be true of a cluster, rung by rung, before it is proven.

Each rung says what it waits for and why it is not there yet, asks docker first when the API
server is silent, and gives up early on what will not come. A time-out is a failure here:
kind's own waiting reports success after one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from labctl import kubewords
from labctl.cluster.running import RunningCluster, require_nodes
from labctl.cluster.spec import ClusterSpec
from labctl.errors import ApiRefused, ApiUnreachable, InfrastructureError, LabctlError
from labctl.kube import Kube
from labctl.network.addon import NETWORK, Addon, Workload
from labctl.network.kubeadm import COREDNS
from labctl.progress import Progress
from labctl.tools.docker import Docker
from labctl.waiting import POLL_SECONDS, Deadline, Hopeless, NotYet, until

PATIENCE_SECONDS = 15.0
"""How long a lasting reason must be seen without a break before we give up on it."""
CRASH_PATIENCE_SECONDS = 60.0
"""The same for a program that keeps failing: it may only wait for something else."""
LOOK_SECONDS = POLL_SECONDS
GONE_PATIENCE_SECONDS = 10.0
"""The same for a workload that does not exist, after it was applied."""

LOG_LINES = 40
"""Of a program that keeps failing: kube-proxy prints its settings after the line that tells."""

NEXT = "`labctl kubectl -- get pods -A` shows all pods"


@dataclass(frozen=True)
class Rung:
    """One thing to wait for. ``look`` returns what holds, or raises `NotYet` or `Hopeless`."""

    name: str
    title: str
    look: Callable[[], str]


Started = Mapping[str, datetime]
"""When each node's container was started, by the node's name."""


def ladder(spec: ClusterSpec, kube: Kube, started: Started | None = None) -> tuple[Rung, ...]:
    """The rungs for a cluster of this spec, in the order in which they come true.

    What a node or its pods reported before its container was ``started`` counts for nothing.
    """
    started = started or {}
    cni, balancer = spec.addons
    proxy = spec.service_proxy
    network = spec.provides(NETWORK)
    names = spec.node_names()
    rungs = (
        Rung("api", "API server", lambda: _api(kube)),
        # Before the network: a plugin may itself reach the API server through its Service.
        _addon("proxy", proxy.name, proxy, kube, started) if proxy and proxy not in spec.addons else None,
        _addon("cni", f"CNI {cni.name}", cni, kube, started),
        _all_nodes(names, kube, started, ready=network),
        _addon("dns", COREDNS.name, COREDNS, kube, started) if network else None,  # its pods need a network
        _addon("lb", f"load balancer {balancer.name}", balancer, kube, started),
    )
    return tuple(rung for rung in rungs if rung)


def unknown(cluster: RunningCluster, kube: Kube) -> tuple[Rung, ...]:
    """The rungs for a cluster of which nobody here knows what is installed: what its nodes say of themselves."""
    names = tuple(one.name for one in cluster.nodes)
    return Rung("api", "API server", lambda: _api(kube)), _all_nodes(names, kube, cluster.started, ready=True)


def _all_nodes(names: Sequence[str], kube: Kube, started: Started, *, ready: bool) -> Rung:
    title = f"{len(names)} node(s) {'Ready' if ready else 'registered'}"
    return Rung("nodes", title, lambda: _nodes(kube, names, started, ready=ready))


def _addon(name: str, title: str, addon: Addon, kube: Kube, started: Started) -> Rung | None:
    """The rung of an addon, whoever installs it; None where nothing tells that it is ready."""
    if not addon.ready_when:
        return None
    return Rung(name, title, lambda: ", ".join(workload(kube, one, started) for one in addon.ready_when))


def climb(
    rungs: Sequence[Rung],
    cluster: RunningCluster,
    progress: Progress,
    deadline: Deadline,
    *,
    docker: Docker | None = None,
) -> None:
    """Wait for each rung in turn.

    Raises `InfrastructureError` for a rung that cannot come true, `DeadlineExceeded` with the last
    observation, `NodeDown` when a node's container stopped meanwhile.
    """
    for rung in rungs:
        patience = _Patience()
        look = _asking_docker(rung, cluster, patience, docker)
        with progress.step(rung.title) as step:
            seen = until(
                look,
                what=rung.title,
                within=deadline.left(),
                every=LOOK_SECONDS,
                on_wait=step.note,
                hopeless=_giving_up(rung),
                next_step=NEXT,
            )
            step.result(seen)


def _giving_up(rung: Rung) -> Callable[[str], LabctlError]:
    return lambda reason: InfrastructureError(
        f"{rung.title} will not become ready", why=reason, next_step=NEXT
    )


def _asking_docker(
    rung: Rung, cluster: RunningCluster, patience: _Patience, docker: Docker | None
) -> Callable[[], str]:
    def look() -> str:
        try:
            return rung.look()
        except Lasting as seen:
            patience.lose(seen.reason, seen.seconds, str(seen))
            raise NotYet(str(seen)) from seen
        except NotYet:
            patience.regain()
            raise
        except (ApiUnreachable, ApiRefused) as silent:
            require_nodes(cluster, docker=docker)
            raise NotYet(silent.why or silent.what) from silent

    return look


class Lasting(NotYet):
    """What is seen will probably not pass; ``seconds`` is how long it may still be looked at."""

    def __init__(self, text: str, reason: str, seconds: float) -> None:
        super().__init__(text)
        self.reason = reason
        self.seconds = seconds


class _Patience:
    """Turns a lasting reason into `Hopeless` once it was seen without a break for its time."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def lose(self, reason: str, seconds: float, text: str) -> None:
        """The reason is there (still)."""
        now = time.monotonic()
        self._since = {reason: self._since.get(reason, now)}
        if now - self._since[reason] >= seconds:
            raise Hopeless(text)

    def regain(self) -> None:
        """It is not there."""
        self._since = {}


def _api(kube: Kube) -> str:
    kube.raw_get("/readyz", timeout=5.0)
    return kube.version()


def _nodes(kube: Kube, names: Sequence[str], started: Started, *, ready: bool) -> str:
    with kube.translated("list the nodes"):
        listed: list[Any] = kube.core.list_node().items
    complaints = {str(one.metadata.name): _complaint(one, started) for one in listed} if ready else {}
    bad = {name: text for name, text in sorted(complaints.items()) if text}
    there = len(listed) - len(bad)
    word = "Ready" if ready else "registered"
    if there < len(names):
        missing = sorted(set(names) - {str(one.metadata.name) for one in listed})
        why = [f"{name}: {text}" for name, text in list(bad.items())[:2]]
        why += [f"not registered: {kubewords.summary(missing)}"] if missing else []
        raise NotYet(f"{there}/{len(names)} {word}: {'; '.join(why)}")
    return f"{there}/{len(names)} {word}"


def _complaint(node: Any, started: Started) -> str:
    """Why a node is not Ready now.

    The API server keeps what a node said before its container was stopped, and nobody takes it back for
    the first 40 s: until the kubelet has reported again the node is not Ready, whatever stands there.
    """
    if kubewords.before(kubewords.last_report(node), started.get(str(node.metadata.name))):
        return "started anew, has not reported since"
    return kubewords.node(node)


def workload(kube: Kube, wanted: Workload, started: Started | None = None) -> str:
    """ "3/3 ready" of a DaemonSet or Deployment whose newest version is out; else raises what is missing.

    A pod counts when it runs since its node was ``started``.
    """
    found: Any
    try:
        with kube.translated(f"read {wanted}"):
            if wanted.kind == "DaemonSet":
                found = kube.apps.read_namespaced_daemon_set(name=wanted.name, namespace=wanted.namespace)
                status = found.status
                total, ready = status.desired_number_scheduled or 0, status.number_ready or 0
                updated = status.updated_number_scheduled or 0
            else:
                found = kube.apps.read_namespaced_deployment(name=wanted.name, namespace=wanted.namespace)
                status = found.status
                total, ready = found.spec.replicas or 0, status.ready_replicas or 0
                updated = status.updated_replicas or 0
    except ApiRefused as refused:
        if refused.status == 404:
            raise Lasting(f"{wanted} does not exist", "gone", GONE_PATIENCE_SECONDS) from refused
        raise
    observed = (status.observed_generation or 0) >= (found.metadata.generation or 0)
    labels = found.spec.selector.match_labels or {}
    if observed and total and ready >= total and updated >= total:
        if started and (old := kubewords.from_before(_pods(kube, wanted, labels), started)):
            raise NotYet(f"not started again since its node was: {kubewords.summary(old)}")
        return f"{ready}/{total} ready"
    seen = _why(kube, wanted, labels)
    text = f"{ready}/{total or '?'} ready" + (f": {seen.text}" if seen.text else "")
    if seen.lasting:
        slow = seen.lasting in kubewords.SLOW.values()
        raise Lasting(text, seen.lasting, CRASH_PATIENCE_SECONDS if slow else PATIENCE_SECONDS)
    raise NotYet(text)


def _why(kube: Kube, wanted: Workload, labels: dict[str, str]) -> kubewords.Trouble:
    listed = _pods(kube, wanted, labels)
    seen = kubewords.pods(listed)
    if seen.lasting in kubewords.SLOW.values() and (said := _last_words(kube, listed)):
        return replace(seen, text=f"{seen.text}; it said: {said}")
    return seen


def _last_words(kube: Kube, listed: Sequence[Any]) -> str:
    """What the first program that keeps failing said before it ended last; '' where nothing can be had."""
    for namespace, pod, container in kubewords.crashing(listed):
        with suppress(LabctlError), kube.translated("read a log"):
            log = kube.core.read_namespaced_pod_log(
                name=pod, namespace=namespace, container=container, previous=True, tail_lines=LOG_LINES
            )
            return kubewords.telling(str(log))
    return ""


def _pods(kube: Kube, wanted: Workload, labels: dict[str, str]) -> list[Any]:
    selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    with kube.translated(f"list the pods of {wanted}"):
        listed: list[Any] = kube.core.list_namespaced_pod(
            namespace=wanted.namespace, label_selector=selector
        ).items
    return listed
