"""What a proof needs in the cluster: a probe pod on every node, Services in front of them, and how they are asked.

The pods run under the restricted Pod Security Standard in a namespace that is deleted afterwards.
Every answer carries the nonce of this one proof. What an answer proves is not decided here.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from labctl import kubewords
from labctl.cluster.readiness import NEXT
from labctl.cluster.running import RunningCluster
from labctl.errors import InfrastructureError, LabctlError
from labctl.kube import Kube
from labctl.probe import NONCE_LABEL
from labctl.probe.answers import Dialled
from labctl.probe.objects import on_every_node, service
from labctl.probe.pod import PodProbe
from labctl.progress import Progress
from labctl.waiting import Hopeless, NotYet, until

PEER = "peer"
NAMESPACE_PREFIX = "labctl-proof-"
PROOF_LABEL = "labctl.dev/proof"
PODS_SECONDS = 90.0
RESOLVE_SECONDS = 5.0
"""For a name to be looked up before the question is asked again; where DNS works it takes milliseconds."""


@dataclass(frozen=True)
class Peer:
    """A probe pod that is ready: its name, its node's name and its own IP address."""

    pod: str
    node: str
    address: str


class Stage:
    """One run of the proof in the cluster: its namespace, its pods, its Services and their questions."""

    def __init__(self, cluster: RunningCluster, kube: Kube) -> None:
        self.cluster = cluster
        self.kube = kube
        self.nonce = secrets.token_hex(5)
        self.namespace = f"{NAMESPACE_PREFIX}{self.nonce}"
        self.peers: tuple[Peer, ...] = ()
        self.service = ""

    @property
    def names(self) -> dict[str, str]:
        """Each pod's node."""
        return {one.pod: one.node for one in self.peers}

    def ask(self, peer: Peer, host: str, port: int, tries: int = 1) -> Dialled:
        """What came of calls by ``peer``. Raises `ProbeDidNotRun`, and `ApiRefused` when the pod is gone."""
        return PodProbe(self.kube, self.namespace, peer.pod).dial(
            host, port, tries=tries, resolving=RESOLVE_SECONDS
        )


@contextmanager
def set_up(stage: Stage, progress: Progress) -> Iterator[None]:
    """Within the block the pods are ready and ``stage.peers`` knows them; afterwards all is deleted.

    Raises `InfrastructureError` when pods cannot start, `DeadlineExceeded` when they do not.
    """
    core = stage.kube.core
    try:
        with progress.step("Proof: start a probe pod on every node") as step:
            with stage.kube.translated("create the proof's namespace"):
                core.create_namespace(body=_namespace(stage.namespace))
            # Before the pods, so that rules and an address are on their way while the pods start.
            stage.service = str(_serve(stage, "backends").spec.cluster_ip)
            if stage.cluster.provides("load balancer"):
                _serve(stage, "front", kind="LoadBalancer")
            pods = on_every_node(PEER, labels={NONCE_LABEL: stage.nonce})
            with stage.kube.translated("create the proof's pods"):
                stage.kube.apps.create_namespaced_daemon_set(namespace=stage.namespace, body=pods)
            stage.peers = until(
                lambda: _started(stage),
                what="the proof's pods",
                within=PODS_SECONDS,
                every=0.3,
                on_wait=step.note,
                hopeless=lambda why: InfrastructureError(
                    "the proof's pods do not start",
                    why=why,
                    next_step=NEXT,
                ),
            )
            step.result(f"{len(stage.peers)} pods")
        yield
    finally:
        with suppress(LabctlError), stage.kube.translated("delete the proof's namespace"):
            core.delete_namespace(name=stage.namespace)


def _started(stage: Stage) -> tuple[Peer, ...]:
    with stage.kube.translated("list the proof's pods"):
        listed: list[Any] = stage.kube.core.list_namespaced_pod(namespace=stage.namespace).items
    ready = [one for one in listed if kubewords.is_ready(one)]
    wanted = len(stage.cluster.nodes)
    if len(ready) < wanted:
        seen = kubewords.pods(listed)
        text = f"{len(ready)}/{wanted} ready: {seen.text or 'not created yet'}"
        if seen.final:
            raise Hopeless(text)
        raise NotYet(text)
    peers = [Peer(one.metadata.name, one.spec.node_name, one.status.pod_ip) for one in ready]
    return tuple(sorted(peers, key=lambda one: one.node))


def _serve(stage: Stage, name: str, kind: str = "ClusterIP") -> Any:
    with stage.kube.translated(f"create the Service {name}"):
        return stage.kube.core.create_namespaced_service(
            namespace=stage.namespace, body=service(name, app=PEER, kind=kind)
        )


def _namespace(name: str) -> Any:
    return {
        "metadata": {
            "name": name,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted", PROOF_LABEL: "yes"},
        }
    }
