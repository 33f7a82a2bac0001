"""The proof: a cluster is ready only when its network has been seen to work.

A probe pod runs on every node. Asked through the API server, each calls every other one by
address, a Service by address and by name; at last this machine calls a load balancer's address.
Every answer must carry this proof's random nonce, so nothing else can have answered. The pods
run under the restricted Pod Security Standard, and everything is deleted afterwards.
"""

from __future__ import annotations

import http.client
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from labctl.cluster import explain
from labctl.cluster.probepods import PORT, SERVICE_PORT, Stage, set_up
from labctl.cluster.running import RunningCluster
from labctl.errors import DeadlineExceeded, LabctlError, ProofFailed
from labctl.kube import Kube
from labctl.network import pool as pools
from labctl.progress import Progress
from labctl.waiting import Hopeless, NotYet, until

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


def prove(cluster: RunningCluster, kube: Kube, progress: Progress) -> ProofResult:
    """Make every proof and return what each found; raises only where the proof could not be made at all.

    `InfrastructureError` when the probe pods do not start, `ApiUnreachable` when the API is gone.
    """
    started = time.monotonic()
    stage = Stage(cluster, kube)
    found: list[Proven] = []
    with set_up(stage, progress):
        for make in (_pairs, _service, _dns, _load_balancer):
            found.append(_timed(make, stage, progress))
    return ProofResult(tuple(found), stage.nonce, time.monotonic() - started)


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


def _pairs(stage: Stage) -> tuple[str, str, str, Callable[[], str]]:
    pairs = [(one, other) for one in stage.peers for other in stage.peers if one is not other]
    pairs = pairs or [(one, one) for one in stage.peers]

    def look() -> str:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(lambda pair: stage.ask(pair[0], pair[1].address, PORT), pairs))
        bad = [
            f"{one.node} -> {other.node}: {wrong or ', '.join(said) or 'no answer'}"
            for (one, other), (said, wrong) in zip(pairs, answers, strict=True)
            if said != [f"{other.pod}/{stage.nonce}"]
        ]
        if bad:
            raise NotYet(f"{len(pairs) - len(bad)} of {len(pairs)}; {'; '.join(bad[:3])}")
        return f"{len(pairs)} of {len(pairs)}"

    title = "pod to pod, every ordered pair of nodes" if len(stage.peers) > 1 else "pod to its own address"
    return "pods", title, f"{len(pairs)} of {len(pairs)} answer", look


def _service(stage: Stage) -> tuple[str, str, str, Callable[[], str]]:
    names = stage.names
    seen: set[str] = set()

    def look() -> str:
        for peer in stage.peers:
            said, wrong = stage.ask(peer, stage.service, SERVICE_PORT, TRIES)
            strange = [one for one in said if not _from(one, names, stage.nonce)]
            if wrong or strange or not said:
                raise NotYet(f"from {peer.node}: {wrong or ', '.join(strange) or 'no answer'}")
            seen.update(one.partition("/")[0] for one in said)
        if left := [node for pod, node in names.items() if pod not in seen]:
            raise NotYet(f"no answer yet from the backend on {explain.summary(left)}")
        return f"{len(names)} backends"

    expected = f"{len(names)} backends answer every node"
    return "service", "a Service, from every node over backends on every node", expected, look


def _dns(stage: Stage) -> tuple[str, str, str, Callable[[], str]]:
    host = f"backends.{stage.namespace}.svc.cluster.local"
    names = stage.names

    def look() -> str:
        bad = []
        for peer in stage.peers:
            said, wrong = stage.ask(peer, host, SERVICE_PORT)
            if wrong or not all(_from(one, names, stage.nonce) for one in said) or not said:
                bad.append(f"{peer.node}: {wrong or ', '.join(said) or 'no answer'}")
        if bad:
            raise NotYet(f"{len(stage.peers) - len(bad)} of {len(stage.peers)}; {'; '.join(bad[:2])}")
        return f"{len(stage.peers)} of {len(stage.peers)} nodes"

    return "dns", "DNS from every node", f"{len(stage.peers)} of {len(stage.peers)} nodes", look


def _load_balancer(stage: Stage) -> tuple[str, str, str, Callable[[], str] | str]:
    title = "a load balancer's address from this machine"
    balanced = stage.cluster.provides("load balancer")
    expected = f"an answer from an address of {stage.cluster.pool}" if balanced else "-"
    if not balanced:
        return "load-balancer", title, expected, "the cluster has no load balancer"
    if sys.platform != "linux":
        return "load-balancer", title, expected, "this machine cannot reach the docker network"
    names = stage.names
    allowed = pools.parse(stage.cluster.pool)

    def look() -> str:
        with stage.kube.translated("read the Service front"):
            front: Any = stage.kube.core.read_namespaced_service(name="front", namespace=stage.namespace)
        ingress = (front.status.load_balancer.ingress if front.status.load_balancer else None) or []
        address = next((str(one.ip) for one in ingress if one.ip), "")
        if not address:
            raise NotYet("the Service has no external address yet")
        if address not in allowed:
            raise Hopeless(f"the address {address} is not of the pool {allowed}")
        said = _call(address, SERVICE_PORT)
        if not _from(said, names, stage.nonce):
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


def _timed(make: Callable[[Stage], tuple[str, str, str, Any]], stage: Stage, progress: Progress) -> Proven:
    started = time.monotonic()
    name, title, expected, look = make(stage)
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
