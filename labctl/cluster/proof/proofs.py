"""The proofs themselves: what each asks of the network, what it expects, and what counts as an answer.

A look returns what holds, or raises `NotYet` with what was seen instead. Only answers of this proof's own pods
that carry its nonce count: nothing else can have answered.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from labctl import kubewords
from labctl.cluster.proof.stage import Peer, Stage
from labctl.errors import ApiRefused, ProbeDidNotRun
from labctl.network import pool as pools
from labctl.probe.answers import Dialled
from labctl.probe.objects import PORT, SERVICE_PORT
from labctl.probe.outside import OutsideProbe
from labctl.waiting import Hopeless, NotYet

AT_ONCE = 4
"""Questions asked at the same time."""
TRIES = 8
"""Connections per question to a Service; repeated until every backend has answered."""
CALL_SECONDS = 1.0


@dataclass(frozen=True)
class Proof:
    """One thing to prove. ``look`` is None where it is not looked at here; ``why_not`` says why."""

    id: str
    title: str
    expected: str
    look: Callable[[], str] | None = None
    why_not: str = ""


@dataclass(frozen=True)
class Question:
    """``peer`` calls ``host`` and ``port``."""

    peer: Peer
    host: str
    port: int
    tries: int = 1


def pairs(stage: Stage) -> Proof:
    """Every pod calls every other one by its address; a single one calls itself."""
    wanted = [(one, other) for one in stage.peers for other in stage.peers if one is not other]
    wanted = wanted or [(one, one) for one in stage.peers]

    def look() -> str:
        answers = _ask(stage, [Question(one, other.address, PORT) for one, other in wanted])
        bad = [
            f"{one.node} -> {other.node}: {wrong or ', '.join(said) or 'no answer'}"
            for (one, other), (said, wrong) in zip(wanted, answers, strict=True)
            if said != (f"{other.pod}/{stage.nonce}",)
        ]
        if bad:
            raise NotYet(f"{len(wanted) - len(bad)} of {len(wanted)}; {'; '.join(bad[:3])}")
        return f"{len(wanted)} of {len(wanted)}"

    title = "pod to pod, every ordered pair of nodes" if len(stage.peers) > 1 else "pod to its own address"
    return Proof("pods", title, f"{len(wanted)} of {len(wanted)} answer", look)


def service(stage: Stage) -> Proof:
    """From every node a Service's address leads to every backend."""
    seen: set[str] = set()

    def look() -> str:
        questions = [Question(peer, stage.service, SERVICE_PORT, TRIES) for peer in stage.peers]
        for peer, (said, wrong) in zip(stage.peers, _ask(stage, questions), strict=True):
            strange = [one for one in said if not _ours(one, stage)]
            if wrong or strange or not said:
                raise NotYet(f"from {peer.node}: {wrong or ', '.join(strange) or 'no answer'}")
            seen.update(one.partition("/")[0] for one in said)
        if left := [node for pod, node in stage.names.items() if pod not in seen]:
            raise NotYet(f"no answer yet from the backend on {kubewords.summary(left)}")
        return f"{len(stage.names)} backends"

    title = "a Service, from every node over backends on every node"
    return Proof("service", title, f"{len(stage.names)} backends answer every node", look)


def dns(stage: Stage) -> Proof:
    """From every node the Service's full name leads to a backend."""
    host = f"backends.{stage.namespace}.svc.cluster.local"
    everybody = f"{len(stage.peers)} of {len(stage.peers)} nodes"

    def look() -> str:
        answers = _ask(stage, [Question(peer, host, SERVICE_PORT) for peer in stage.peers])
        bad = [
            f"{peer.node}: {wrong or ', '.join(said) or 'no answer'}"
            for peer, (said, wrong) in zip(stage.peers, answers, strict=True)
            if wrong or not said or not all(_ours(one, stage) for one in said)
        ]
        if bad:
            raise NotYet(f"{len(stage.peers) - len(bad)} of {len(stage.peers)}; {'; '.join(bad[:2])}")
        return everybody

    return Proof("dns", "DNS from every node", everybody, look)


def load_balancer(stage: Stage) -> Proof:
    """An address of the cluster's pool answers this machine, which is no node."""
    name, title = "load-balancer", "a load balancer's address from this machine"
    if not stage.cluster.provides("load balancer"):
        return Proof(name, title, "-", why_not="the cluster has no load balancer")
    expected = f"an answer from an address of {stage.cluster.pool}"
    if sys.platform != "linux":
        return Proof(name, title, expected, why_not="this machine cannot reach the docker network")
    pool = pools.parse(stage.cluster.pool)
    outside = OutsideProbe(lambda address: address in pool)

    def look() -> str:
        address = _address_of(stage, "front")
        if not address:
            raise NotYet("the Service has no external address yet")
        if address not in pool:
            raise Hopeless(f"the address {address} is not of the pool {pool}")
        call = outside.dial(address, SERVICE_PORT, timeout=CALL_SECONDS)
        if not _ours(call.answer.strip(), stage):
            raise NotYet(str(call))
        return f"{address} answers"

    return Proof(name, title, expected, look)


def _address_of(stage: Stage, name: str) -> str:
    with stage.kube.translated(f"read the Service {name}"):
        front: Any = stage.kube.core.read_namespaced_service(name=name, namespace=stage.namespace)
    ingress = (front.status.load_balancer.ingress if front.status.load_balancer else None) or []
    return next((str(one.ip) for one in ingress if one.ip), "")


def _ask(stage: Stage, questions: Sequence[Question]) -> list[tuple[tuple[str, ...], str]]:
    """For each question the answers, and what went wrong or ''."""

    def answer(one: Question) -> tuple[tuple[str, ...], str]:
        try:
            call: Dialled = stage.ask(one.peer, one.host, one.port, one.tries)
        except (ApiRefused, ProbeDidNotRun) as broken:
            return (), broken.why or broken.what
        return tuple(body.strip() for body in call.answers), call.why

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(answer, questions))


def _ours(said: str, stage: Stage) -> bool:
    pod, _, nonce = said.partition("/")
    return pod in stage.names and nonce == stage.nonce


MADE = (pairs, service, dns, load_balancer)
"""What is proven, in this order."""
