"""What a proof needs in the cluster: a probe pod on every node, Services before them, and how they are asked.

The pods run under the restricted Pod Security Standard in a namespace that is deleted afterwards.
Every answer carries the nonce of this one proof. What an answer proves is not decided here.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from labctl.cluster import explain
from labctl.cluster.readiness import NEXT
from labctl.cluster.running import RunningCluster
from labctl.errors import ApiRefused, ApiUnreachable, InfrastructureError, LabctlError
from labctl.images.workloads import PROBE
from labctl.kube import Kube
from labctl.progress import Progress
from labctl.waiting import Hopeless, NotYet, until

PORT = 8080
SERVICE_PORT = 80
NAMESPACE_PREFIX = "labctl-proof-"
PROOF_LABEL = "labctl.dev/proof"
PODS_SECONDS = 90.0


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

    def ask(self, peer: Peer, host: str, port: int, tries: int = 1) -> tuple[list[str], str]:
        """What answered when ``peer`` called: the bodies, and what went wrong."""
        query: dict[str, str | int] = {
            "request": "envvar?var=WHO", "protocol": "http", "host": host, "port": port, "tries": tries
        }  # fmt: skip
        try:
            body = self.kube.pod_get(
                self.namespace, peer.pod, port=PORT, path="dial", query=query, timeout=5.0 * tries + 5
            )
            said = json.loads(body)
        except (ApiRefused, ApiUnreachable) as error:
            return [], error.why
        except ValueError:
            return [], "the probe's answer is not JSON"
        wrong = sorted({str(one) for one in said.get("errors") or ()})
        return [str(one).strip() for one in said.get("responses") or ()], "; ".join(wrong[:2])


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
            with stage.kube.translated("create the proof's pods"):
                stage.kube.apps.create_namespaced_daemon_set(namespace=stage.namespace, body=_pods(stage))
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
    ready = [one for one in listed if explain.pod_is_ready(one)]
    wanted = len(stage.cluster.nodes)
    if len(ready) < wanted:
        seen = explain.pods(listed)
        text = f"{len(ready)}/{wanted} ready: {seen.text or 'not created yet'}"
        if seen.lasting in explain.LASTING.values():
            raise Hopeless(text)
        raise NotYet(text)
    peers = [Peer(one.metadata.name, one.spec.node_name, one.status.pod_ip) for one in ready]
    return tuple(sorted(peers, key=lambda one: one.node))


def _serve(stage: Stage, name: str, kind: str = "ClusterIP") -> Any:
    body: Any = {
        "metadata": {"name": name},
        "spec": {
            "type": kind,
            "selector": {"app": "peer"},
            "ports": [{"port": SERVICE_PORT, "targetPort": PORT}],
        },
    }
    with stage.kube.translated(f"create the Service {name}"):
        return stage.kube.core.create_namespaced_service(namespace=stage.namespace, body=body)


def _namespace(name: str) -> Any:
    return {
        "metadata": {
            "name": name,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted", PROOF_LABEL: "yes"},
        }
    }


def _pods(stage: Stage) -> Any:
    who = f"$(POD)/{stage.nonce}"
    container = {
        "name": "probe",
        "image": PROBE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/agnhost"],
        "args": ["netexec", f"--http-port={PORT}", f"--udp-port={PORT + 1}"],
        "env": [
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "WHO", "value": who},
        ],
        "readinessProbe": {
            "httpGet": {"path": "/healthz", "port": PORT},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
        },
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "containers": [container],
        "tolerations": [{"operator": "Exists", "effect": "NoSchedule"}],
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    return {
        "metadata": {"name": "peer"},
        "spec": {
            "selector": {"matchLabels": {"app": "peer"}},
            "template": {"metadata": {"labels": {"app": "peer"}}, "spec": spec},
        },
    }
