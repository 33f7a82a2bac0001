"""What a lab takes away for a while: the authors' side of counterfactuals.

`with k8s.stopped("kube-scheduler"):` and its kin. How each is taken, marked and paid back is
labctl.cluster.absence's; here is who asks, what is away at this moment, and the placebo, in which nothing is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from labctl import kubewords
from labctl.cluster.absence import besideapi, known
from labctl.cluster.absence.besideapi import BesideApi
from labctl.cluster.absence.kinds import Absence
from labctl.cluster.absence.onnodes import FrozenNode, StoppedNode
from labctl.cluster.absence.site import Site
from labctl.cluster.absence.taking import EVERY_SECONDS, taken_away
from labctl.cluster.absence.workloads import WithoutRules
from labctl.cluster.running import RunningCluster
from labctl.errors import ApiUnreachable, InfrastructureError, KubernetesError, ProbeDidNotRun
from labctl.kube import Kube
from labctl.lab.api import Condition
from labctl.lab.expectation import CheckFailed, Unmet
from labctl.lab.instance import Instance
from labctl.probe.objects import CONTAINER, UNREADY_FILE
from labctl.tools.docker import Docker
from labctl.waiting import NotYet, undisturbed, until

NO_ACCESS = "needs access to the nodes, a kubeconfig alone gives none"

OWN_SECONDS = 60.0
"""For something of the lab's own to go or to come back."""


class _Handle(Protocol):
    """What is used of the handle."""

    kube: Kube
    running: RunningCluster
    docker: Docker | None
    instance: Instance


@dataclass(frozen=True)
class Own(Absence):
    """Something of the lab's own that is away; reset removes it with the lab, so it leaves no marker."""

    @property
    def title(self) -> str:
        """What the author calls it."""
        return self.thing


class Absences:
    """What one lab has taken away. ``note`` is told what is waited for; ``alone`` says that no other lab runs."""

    def __init__(self, handle: _Handle, *, placebo: bool = False, alone: bool = True) -> None:
        self._handle = handle
        self.placebo = placebo
        self.alone = alone
        self.note: Callable[[str], None] = lambda _: None
        self._active: list[Absence] = []
        self._expected: list[Absence] = []

    @property
    def active(self) -> tuple[Absence, ...]:
        """The takings-away that the lab's code is inside of now, outermost first; in a placebo too."""
        return tuple(self._active)

    @property
    def expected(self) -> frozenset[Absence]:
        """What may really be away now: from before it is taken until it works again. Empty in a placebo."""
        return frozenset(self._expected)

    @contextlib.contextmanager
    def away(self, absence: Absence) -> Iterator[None]:
        """A block without ``absence``. Raises `ValueError` where other labs may need it now, `Unmet` where the nodes
        cannot be entered, else as `taken_away`."""
        if not self.alone:
            thing = absence.thing
            raise ValueError(f"{thing} is taken away beside other labs: say touches=[...] in Lab(...)")
        site = self.site()
        if self.placebo:
            with self._registered(self._active, absence):
                yield
            return
        with (
            self._registered(self._expected, absence),
            taken_away(site, absence, by=self._handle.instance.prefix, note=lambda text: self.note(text)),
            self._registered(self._active, absence),
        ):
            yield

    @contextlib.contextmanager
    def own(
        self,
        title: str,
        *,
        take: Callable[[], object],
        give: Callable[[], object],
        gone: Callable[[], object],
        back: Callable[[], object],
    ) -> Iterator[None]:
        """A block without something of the lab's own: ``take`` and ``give`` order it, ``gone`` and ``back`` are looks
        that raise (as conditions do) until it is so. At every exit it is given back."""
        absence = Own(title)
        if self.placebo:
            with self._registered(self._active, absence):
                yield
            return
        with self._registered(self._expected, absence):
            try:
                take()
                _await(gone, f"{title} is gone", self.note)
                with self._registered(self._active, absence):
                    yield
            finally:
                with undisturbed():
                    give()
                    _await(back, f"{title} is back", self.note)

    def site(self) -> Site:
        """Where it is taken from. Raises `Unmet` without access to every node."""
        handle = self._handle
        if handle.docker is None or len(handle.running.containers) < len(handle.running.nodes):
            raise Unmet(NO_ACCESS)
        return Site(handle.running, handle.docker, handle.kube)

    @contextlib.contextmanager
    def _registered(self, among: list[Absence], absence: Absence) -> Iterator[None]:
        among.append(absence)
        try:
            yield
        finally:
            among.remove(absence)


class TakesAway:
    """The part of the handle by which a lab takes things away; each is a ``with`` block."""

    kube: Kube
    running: RunningCluster
    docker: Docker | None
    instance: Instance
    absences: Absences

    @property
    def placebo(self) -> bool:
        """Whether every taking-away does nothing but say that it is active: the prover's question to an experiment."""
        return self.absences.placebo

    def where(self, namespace: str = "") -> str:
        """The namespace that the lab's own name for it means."""
        raise NotImplementedError

    def stopped(self, thing: str, *, node: str = "") -> contextlib.AbstractContextManager[None]:
        """A block without ``thing``, which is really gone inside and works again after.

        Static pods (on every control plane): ``kube-apiserver``, ``kube-controller-manager``,
        ``kube-scheduler``, ``etcd``. Units of ``node``: ``kubelet``, ``containerd``. Workloads: ``kube-proxy``
        (off ``node``, else off all), ``CoreDNS``, ``MetalLB's controller``, "deployment/NAMESPACE/NAME",
        "daemonset/NAMESPACE/NAME".
        """
        return self.absences.away(known.named(thing, self.running, node))

    def frozen(self, node: str) -> contextlib.AbstractContextManager[None]:
        """A block in which a node's every process is frozen."""
        return self.absences.away(FrozenNode(self.running.node(node).name, (node,)))

    def stopped_node(self, node: str) -> contextlib.AbstractContextManager[None]:
        """A block in which a node's container is stopped, as by a power cut with ten seconds of notice."""
        return self.absences.away(StoppedNode(self.running.node(node).name, (node,)))

    def without_rules(self, node: str) -> contextlib.AbstractContextManager[None]:
        """A block without kube-proxy and without its rules on one node."""
        return self.absences.away(WithoutRules("kube-proxy", (self.running.node(node).name,), "kube-system"))

    def unready(self, pod: Any, *, namespace: str = "") -> contextlib.AbstractContextManager[None]:
        """A block in which a probe pod (its name or its V1Pod) made with ``can_be_unready`` is not ready."""
        name, where = getattr(getattr(pod, "metadata", None), "name", pod), self.where(namespace)

        def run(*argv: str) -> None:
            done = self.kube.exec(where, name, argv, container=CONTAINER)
            if done.exit_code:
                raise ProbeDidNotRun(f"`{argv[0]}` failed in pod {where}/{name}", why=done.stderr.strip())

        def is_ready(wanted: str) -> Callable[[], None]:
            return lambda: _require_ready(self.kube, where, name, wanted)

        return self.absences.own(
            f"the readiness of pod {name}",
            take=lambda: run("touch", UNREADY_FILE),
            gone=is_ready("False"),
            give=lambda: run("rm", "-f", UNREADY_FILE),
            back=is_ready("True"),
        )

    def api_silent(self) -> Condition:
        """The condition that no API server answers: neither this machine, nor a call from its own node.

        It needs no API server to be answered, so it holds while one is away instead of not running.
        """
        return lambda _: self._require_silence()

    @property
    def beside_api(self) -> BesideApi:
        """The pods, asked from their nodes: what `PodProbe` needs while no API server answers. Raises `Unmet`."""
        site = self.absences.site()
        return BesideApi(site.docker, site.cluster)

    def _require_silence(self) -> None:
        site = self.absences.site()
        expected = "no API server answers"
        for called in besideapi.api_calls(site.docker, site.cluster):
            if called.answered:
                raise CheckFailed(str(called), expected=expected)
        try:
            version = self.kube.version()
        except ApiUnreachable:
            return
        except KubernetesError as refused:
            raise CheckFailed(str(refused), expected=expected) from refused
        raise CheckFailed(f"it answers this machine: {version}", expected=expected)


def _require_ready(kube: Kube, namespace: str, name: str, wanted: str) -> None:
    with kube.translated(f"read pod {namespace}/{name}"):
        pod: Any = kube.core.read_namespaced_pod(name=name, namespace=namespace)
    seen = kubewords.condition(pod, "Ready") or "not reported"
    if seen != wanted:
        raise NotYet(f"pod {name}: Ready is {seen}")


def _await(look: Callable[[], object], what: str, note: Callable[[str], None]) -> None:
    def as_wait() -> None:
        try:
            look()
        except (CheckFailed, InfrastructureError) as seen:
            raise NotYet(str(seen)) from seen

    until(as_wait, what=what, within=OWN_SECONDS, every=EVERY_SECONDS, on_wait=note)
