"""The proof: a cluster is ready only when its network has been seen to work.

A probe pod runs on every node. Asked through the API server, each calls every other one by
address, a Service by address and by name; at last this machine calls a load balancer's address.
Every answer must carry this proof's random nonce, so nothing else can have answered. The pods
run under the restricted Pod Security Standard, and everything is deleted afterwards.
"""

from __future__ import annotations

import http.client
import json
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from labctl.cluster import explain
from labctl.cluster.running import RunningCluster
from labctl.errors import ApiRefused, DeadlineExceeded, InfrastructureError, LabctlError, ProofFailed
from labctl.images.workloads import PROBE
from labctl.kube import Kube
from labctl.network import pool as pools
from labctl.progress import Progress
from labctl.waiting import Hopeless, NotYet, until

PORT = 8080
SERVICE_PORT = 80
NAMESPACE_PREFIX = "labctl-proof-"
PROOF_LABEL = "labctl.dev/proof"

PODS_SECONDS = 90.0
EACH_SECONDS = 45.0
"""For one proof to come true: rules for a Service reach every node within a few seconds."""
AT_ONCE = 4
TRIES = 8
"""Connections per question to a Service; repeated until every backend has answered."""
CALL_SECONDS = 1.0


@dataclass(frozen=True)
class Proven:
    """One named proof. ``held`` None: not looked at here, ``actual`` says why."""

    id: str
    title: str
    held: bool | None
    expected: str
    actual: str
    seconds: float = 0.0


@dataclass(frozen=True)
class ProofResult:
    """All proofs of one run, in their order."""

    proofs: tuple[Proven, ...]
    nonce: str
    seconds: float

    @property
    def held(self) -> bool:
        """Whether none failed and at least one was made."""
        made = [one for one in self.proofs if one.held is not None]
        return bool(made) and all(one.held for one in made)

    @property
    def failed(self) -> tuple[Proven, ...]:
        """Those that did not hold."""
        return tuple(one for one in self.proofs if one.held is False)


@dataclass(frozen=True)
class _Peer:
    pod: str
    node: str
    address: str


class _Proof:
    """One run of the proof: its namespace, its pods, its questions."""

    def __init__(self, cluster: RunningCluster, kube: Kube) -> None:
        self.cluster = cluster
        self.kube = kube
        self.nonce = secrets.token_hex(5)
        self.namespace = f"{NAMESPACE_PREFIX}{self.nonce}"
        self.peers: tuple[_Peer, ...] = ()
        self.service = ""

    @property
    def names(self) -> dict[str, str]:
        """Each pod's node."""
        return {one.pod: one.node for one in self.peers}

    def ask(self, peer: _Peer, host: str, port: int, tries: int = 1) -> tuple[list[str], str]:
        """What answered when ``peer`` called: the bodies, and what went wrong."""
        query: dict[str, str | int] = {
            "request": "envvar?var=WHO", "protocol": "http", "host": host, "port": port, "tries": tries
        }  # fmt: skip
        try:
            body = self.kube.pod_get(
                self.namespace, peer.pod, port=PORT, path="dial", query=query, timeout=5.0 * tries + 5
            )
            said = json.loads(body)
        except ApiRefused as refused:
            return [], refused.why
        except ValueError:
            return [], "the probe's answer is not JSON"
        wrong = sorted({str(one) for one in said.get("errors") or ()})
        return [str(one).strip() for one in said.get("responses") or ()], "; ".join(wrong[:2])


def prove(cluster: RunningCluster, kube: Kube, progress: Progress) -> ProofResult:
    """Make every proof and return what each found; raises only where the proof could not be made at all.

    `InfrastructureError` when the probe pods do not start, `ApiUnreachable` when the API is gone.
    """
    started = time.monotonic()
    proof = _Proof(cluster, kube)
    found: list[Proven] = []
    with _stage(proof, progress):
        for make in (_pairs, _service, _dns, _load_balancer):
            found.append(_timed(make, proof, progress))
    return ProofResult(tuple(found), proof.nonce, time.monotonic() - started)


def require(result: ProofResult) -> ProofResult:
    """``result`` when it holds. Raises `ProofFailed` that names each proof that does not."""
    if result.held:
        return result
    lines = [f"{one.title}: expected {one.expected}, found {one.actual}" for one in result.failed]
    raise ProofFailed(
        "the cluster's network does not do what it must",
        why=lines[0] if len(lines) == 1 else f"{len(lines)} proofs failed",
        next_step="the bundle holds the logs of the network plugin and kube-proxy",
        details="\n".join(lines),
    )


# --- the proofs


def _pairs(proof: _Proof) -> tuple[str, str, str, Callable[[], str]]:
    pairs = [(one, other) for one in proof.peers for other in proof.peers if one is not other]
    pairs = pairs or [(one, one) for one in proof.peers]

    def look() -> str:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(lambda pair: proof.ask(pair[0], pair[1].address, PORT), pairs))
        bad = [
            f"{one.node} -> {other.node}: {wrong or ', '.join(said) or 'no answer'}"
            for (one, other), (said, wrong) in zip(pairs, answers, strict=True)
            if said != [f"{other.pod}/{proof.nonce}"]
        ]
        if bad:
            raise NotYet(f"{len(pairs) - len(bad)} of {len(pairs)}; {'; '.join(bad[:3])}")
        return f"{len(pairs)} of {len(pairs)}"

    title = "pod to pod, every ordered pair of nodes" if len(proof.peers) > 1 else "pod to its own address"
    return "pods", title, f"{len(pairs)} of {len(pairs)} answer", look


def _service(proof: _Proof) -> tuple[str, str, str, Callable[[], str]]:
    names = proof.names
    seen: set[str] = set()

    def look() -> str:
        for peer in proof.peers:
            said, wrong = proof.ask(peer, proof.service, SERVICE_PORT, TRIES)
            strange = [one for one in said if not _from(one, names, proof.nonce)]
            if wrong or strange or not said:
                raise NotYet(f"from {peer.node}: {wrong or ', '.join(strange) or 'no answer'}")
            seen.update(one.partition("/")[0] for one in said)
        if left := [node for pod, node in names.items() if pod not in seen]:
            raise NotYet(f"no answer yet from the backend on {explain.summary(left)}")
        return f"{len(names)} backends"

    expected = f"{len(names)} backends answer every node"
    return "service", "a Service, from every node over backends on every node", expected, look


def _dns(proof: _Proof) -> tuple[str, str, str, Callable[[], str]]:
    host = f"backends.{proof.namespace}.svc.cluster.local"
    names = proof.names

    def look() -> str:
        bad = []
        for peer in proof.peers:
            said, wrong = proof.ask(peer, host, SERVICE_PORT)
            if wrong or not all(_from(one, names, proof.nonce) for one in said) or not said:
                bad.append(f"{peer.node}: {wrong or ', '.join(said) or 'no answer'}")
        if bad:
            raise NotYet(f"{len(proof.peers) - len(bad)} of {len(proof.peers)}; {'; '.join(bad[:2])}")
        return f"{len(proof.peers)} of {len(proof.peers)} nodes"

    return "dns", "DNS from every node", f"{len(proof.peers)} of {len(proof.peers)} nodes", look


def _load_balancer(proof: _Proof) -> tuple[str, str, str, Callable[[], str] | str]:
    title = "a load balancer's address from this machine"
    balanced = proof.cluster.load_balancer not in {"", "none"}
    expected = f"an answer from an address of {proof.cluster.pool}" if balanced else "-"
    if not balanced:
        return "load-balancer", title, expected, "the cluster has no load balancer"
    if sys.platform != "linux":
        return "load-balancer", title, expected, "this machine cannot reach the docker network"
    names = proof.names
    allowed = pools.parse(proof.cluster.pool)

    def look() -> str:
        with proof.kube.translated("read the Service front"):
            front: Any = proof.kube.core.read_namespaced_service(name="front", namespace=proof.namespace)
        ingress = (front.status.load_balancer.ingress if front.status.load_balancer else None) or []
        address = next((str(one.ip) for one in ingress if one.ip), "")
        if not address:
            raise NotYet("the Service has no external address yet")
        if address not in allowed:
            raise Hopeless(f"the address {address} is not of the pool {allowed}")
        said = _call(address, SERVICE_PORT)
        if not _from(said, names, proof.nonce):
            raise NotYet(f"{address}: {said}")
        return f"{address} answers"

    return "load-balancer", title, expected, look


def _from(said: str, names: dict[str, str], nonce: str) -> bool:
    pod, _, mark = said.partition("/")
    return pod in names and mark == nonce


def _call(host: str, port: int) -> str:
    """The body of one HTTP request from this machine, past every proxy; or what went wrong."""
    connection = http.client.HTTPConnection(host, port, timeout=CALL_SECONDS)
    try:
        connection.request("GET", "/envvar?var=WHO")
        return connection.getresponse().read(4096).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as failed:
        return f"no answer ({str(failed) or type(failed).__name__})"
    finally:
        connection.close()


def _timed(make: Callable[[_Proof], tuple[str, str, str, Any]], proof: _Proof, progress: Progress) -> Proven:
    started = time.monotonic()
    name, title, expected, look = make(proof)
    if isinstance(look, str):
        return Proven(name, title, None, expected, look)
    failure: LabctlError | None = None
    actual = ""
    with suppress(_Shown), progress.step(f"Proof: {title}") as step:
        try:
            actual = until(look, what=title, within=EACH_SECONDS, every=0.3, on_wait=step.note)
            step.result(actual)
        except DeadlineExceeded as late:
            failure = late
            raise _Shown from late
    if isinstance(failure, DeadlineExceeded):
        actual = failure.last
    return Proven(name, title, failure is None, expected, actual, time.monotonic() - started)


class _Shown(Exception):
    """Ends a step badly; the proof's result tells the rest."""


# --- what runs in the cluster for it


@contextmanager
def _stage(proof: _Proof, progress: Progress) -> Iterator[None]:
    core = proof.kube.core
    try:
        with progress.step("Proof: start a probe pod on every node") as step:
            with proof.kube.translated("create the proof's namespace"):
                core.create_namespace(body=_namespace(proof.namespace))
            # Before the pods, so that rules and an address are on their way while the pods start.
            proof.service = str(_serve(proof, "backends").spec.cluster_ip)
            if proof.cluster.load_balancer not in {"", "none"}:
                _serve(proof, "front", kind="LoadBalancer")
            with proof.kube.translated("create the proof's pods"):
                proof.kube.apps.create_namespaced_daemon_set(namespace=proof.namespace, body=_pods(proof))
            proof.peers = until(
                lambda: _started(proof),
                what="the proof's pods",
                within=PODS_SECONDS,
                every=0.3,
                on_wait=step.note,
                hopeless=lambda why: InfrastructureError("the proof's pods do not start", why=why),
            )
            step.result(f"{len(proof.peers)} pods")
        yield
    finally:
        with suppress(LabctlError), proof.kube.translated("delete the proof's namespace"):
            core.delete_namespace(name=proof.namespace)


def _started(proof: _Proof) -> tuple[_Peer, ...]:
    with proof.kube.translated("list the proof's pods"):
        listed: list[Any] = proof.kube.core.list_namespaced_pod(namespace=proof.namespace).items
    ready = [one for one in listed if explain.pod_is_ready(one)]
    wanted = len(proof.cluster.nodes)
    if len(ready) < wanted:
        seen = explain.pods(listed)
        text = f"{len(ready)}/{wanted} ready: {seen.text or 'not created yet'}"
        if seen.lasting in explain.LASTING.values():
            raise Hopeless(text)
        raise NotYet(text)
    peers = [_Peer(one.metadata.name, one.spec.node_name, one.status.pod_ip) for one in ready]
    return tuple(sorted(peers, key=lambda one: one.node))


def _serve(proof: _Proof, name: str, kind: str = "ClusterIP") -> Any:
    body: Any = {
        "metadata": {"name": name},
        "spec": {
            "type": kind,
            "selector": {"app": "peer"},
            "ports": [{"port": SERVICE_PORT, "targetPort": PORT}],
        },
    }
    with proof.kube.translated(f"create the Service {name}"):
        return proof.kube.core.create_namespaced_service(namespace=proof.namespace, body=body)


def _namespace(name: str) -> Any:
    return {
        "metadata": {
            "name": name,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted", PROOF_LABEL: "yes"},
        }
    }


def _pods(proof: _Proof) -> Any:
    who = f"$(POD)/{proof.nonce}"
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
