"""A site to run labs on, made of the stand-ins for docker and the API server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from labctl.cluster.running import RunningCluster
from labctl.lab.api import Lab
from labctl.lab.engine import prover
from labctl.lab.engine.guard import Guard
from labctl.lab.engine.labrun import LabRun, LabSite
from labctl.lab.engine.loader import LabFile
from labctl.lab.instance import new_tag
from labctl.lab.results import LabResult
from tests.unit.fakes.apiserver import FakeKube, Listener, running


class FakeDocker:
    """Answers for the containers of the cluster; ``states`` overrides docker's word for one."""

    def __init__(self, **states: str) -> None:
        self.states = {
            "one-control-plane": "running",
            "one-worker": "running",
            "one-worker2": "running",
            **states,
        }

    def containers(self, labels: Any) -> list[Any]:
        return [SimpleNamespace(name=name, state=state) for name, state in self.states.items()]


def site(
    kube: FakeKube,
    *,
    cluster: RunningCluster | None = None,
    docker: FakeDocker | None = None,
    strict: bool = False,
    listener: Listener | None = None,
) -> LabSite:
    """Where labs run in a test."""
    there: Any = docker
    api: Any = kube
    found = cluster or running()
    guard = Guard(api, found, there)
    return LabSite(api, found, listener or Listener(), guard, there, "run1", strict)


def run_of(kube: FakeKube, file: LabFile, lab: Lab, tag: str = "", **more: Any) -> LabRun:
    """One run of a lab on a site of its own."""
    return LabRun.of(site(kube, **more), file, lab, tag)


def prove(kube: FakeKube, file: LabFile, lab: Lab, **more: Any) -> LabResult:
    """The proof of a lab, piece after piece."""
    return prove_on(site(kube, **more), file, lab)


def prove_on(where: LabSite, file: LabFile, lab: Lab) -> LabResult:
    """The proof of a lab on this site."""
    plain = LabRun.of(where, file, lab)
    if refused := prover.refusal(plain):
        return refused
    shown = [prover.show(LabRun.of(where, file, lab, new_tag()), piece) for piece in prover.pieces(lab)]
    return prover.together(plain, shown)
