"""What is taken from nodes through docker: static pods, systemd units, whole nodes.

None of this needs the API server to be taken, so it may be the API server itself.

The figures in the docstrings are seconds to be gone and to work again, measured once each on a cluster of one node;
two cores were shared with other clusters, with a load of 5 to 10 (scheduler, units) up to 40 (the others).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from labctl.cluster.absence.kinds import Absence, Before
from labctl.cluster.absence.site import Look, Site, moves, node_works, patiently
from labctl.cluster.running import RUNNING
from labctl.errors import InfrastructureError
from labctl.tools.docker import Docker
from labctl.waiting import NotYet

MANIFESTS = "/etc/kubernetes/manifests"
AWAY = "/etc/kubernetes/labctl-away"
"""In the same file system as `MANIFESTS`, so that moving a manifest is one rename and never half done."""

PORTS = {"kube-apiserver": 6443, "kube-controller-manager": 10257, "kube-scheduler": 10259, "etcd": 2379}
"""Where each static pod of a control plane listens on its node."""

ELECTED = ("kube-controller-manager", "kube-scheduler")
"""Those that work only while they hold the Lease of their name in kube-system."""

CURL_REFUSED = 7
"""curl's exit code when nobody listens."""

_TAKE = 'mkdir -p "$2" && { [ ! -e "$1/$3" ] || mv "$1/$3" "$2/$3"; }'
_GIVE = '{ [ ! -e "$2/$3" ] || mv "$2/$3" "$1/$3"; }; rmdir "$2" 2>/dev/null; [ -e "$1/$3" ]'


@dataclass(frozen=True)
class StaticPod(Absence):
    """A static pod of every control plane, away while its manifest lies outside the kubelet's directory.

    kube-scheduler 2.0 and 4.6, kube-controller-manager 1.9 and 18 (it must win its Lease), kube-apiserver 31 (it ends
    slowly on purpose) and 50, etcd 15 and 130 (all that lost the API server with it restart with pauses).
    """

    kind: ClassVar[str] = "static pod"

    @property
    def title(self) -> str:
        """Its name; it is taken from every control plane."""
        return self.thing

    def silences_api(self, planes: tuple[str, ...]) -> bool:  # noqa: ARG002  # the signature of all kinds
        """The API server does not answer without etcd either."""
        return self.thing in {"kube-apiserver", "etcd"}

    def before(self, site: Site) -> Before:
        """Which file it is."""
        for node in self.nodes:
            if not site.run(node, "test", "-e", f"{MANIFESTS}/{self.thing}.yaml", check=False).ok:
                raise InfrastructureError(
                    f"{self.thing} is not there to be taken away",
                    why=f"node {node} has no {MANIFESTS}/{self.thing}.yaml",
                    next_step=f"`labctl heal {site.cluster.name}` puts back what is away",
                )
        return {"manifest": f"{MANIFESTS}/{self.thing}.yaml", "away": f"{AWAY}/{self.thing}.yaml"}

    def take(self, site: Site, before: Before) -> None:  # noqa: ARG002  # the signature of all kinds
        """Move its manifest out of the kubelet's sight."""
        for node in self.nodes:
            site.run(node, "sh", "-c", _TAKE, "sh", MANIFESTS, AWAY, f"{self.thing}.yaml")

    def gone(self, site: Site, before: Before) -> None:  # noqa: ARG002  # as above
        """Its container has ended and nobody listens at its port."""
        for node in self.nodes:
            patiently(lambda node=node: self._gone_from(site, node))  # type: ignore[misc]  # bound per node

    def give(self, site: Site, before: Before) -> Look:
        """Move the manifest back; it works when it answers, and when it holds its Lease where it has one."""
        # All that compete for a Lease lose it while the API server is away, and must win it again.
        elected = [self.thing] if self.thing in ELECTED else ELECTED
        leases = [moves(site, "kube-system", name, site.renewed("kube-system", name)) for name in elected]
        self.order_back(site, before)

        def look() -> None:
            for node in self.nodes:
                if not self._containers(site, node):
                    raise NotYet(f"no container of {self.thing} runs on {node}")
                if not self._listens(site, node):
                    raise NotYet(f"{self.thing} on {node} does not answer")
            site.api_ready()
            for lease in leases:
                lease()

        return lambda: patiently(look)

    def order_back(self, site: Site, before: Before) -> None:  # noqa: ARG002  # as above
        """Move the manifest back."""
        for node in self.nodes:
            if not site.run(
                node, "sh", "-c", _GIVE, "sh", MANIFESTS, AWAY, f"{self.thing}.yaml", check=False
            ).ok:
                raise InfrastructureError(
                    f"the manifest of {self.thing} is lost",
                    why=f"node {node} has neither {MANIFESTS}/{self.thing}.yaml nor {AWAY}/{self.thing}.yaml",
                    next_step=f"make the cluster anew: `labctl up --name {site.cluster.name} --replace`",
                )

    def _gone_from(self, site: Site, node: str) -> None:
        if left := self._containers(site, node):
            raise NotYet(f"container {left[0][:12]} of {self.thing} still runs on {node}")
        if self._listens(site, node):
            raise NotYet(f"{self.thing} on {node} still answers")

    def _containers(self, site: Site, node: str) -> list[str]:
        return site.run(node, "crictl", "ps", "--quiet", "--name", f"^{self.thing}$").stdout.split()

    def _listens(self, site: Site, node: str) -> bool:
        url = f"https://127.0.0.1:{PORTS[self.thing]}/healthz"
        done = site.run(node, "curl", "-sk", "-o", "/dev/null", "--max-time", "3", url, check=False)
        return done.exit_code != CURL_REFUSED


@dataclass(frozen=True)
class Unit(Absence):
    """A systemd unit of one node: ``kubelet`` or ``containerd``. The containers live on without either.

    kubelet 1.4 and 3.1, containerd 1.7 and 5.7.
    """

    kind: ClassVar[str] = "unit"

    @property
    def unready(self) -> frozenset[str]:
        """The node has nobody to report for it."""
        return frozenset(self.nodes)

    def before(self, site: Site) -> Before:
        """That it is active."""
        for node in self.nodes:
            if (state := self._state(site, node)) != "active":
                raise InfrastructureError(
                    f"{self.thing} is not there to be taken away",
                    why=f"on node {node} it is {state}",
                    next_step=f"`labctl heal {site.cluster.name}` puts back what is away",
                )
        return {"state": "active"}

    def take(self, site: Site, before: Before) -> None:  # noqa: ARG002  # the signature of all kinds
        """Stop it; systemctl returns when its processes have ended."""
        for node in self.nodes:
            site.run(node, "systemctl", "stop", self.thing, timeout=120.0)

    def gone(self, site: Site, before: Before) -> None:  # noqa: ARG002  # as above
        """It is inactive."""
        for node in self.nodes:
            if (state := self._state(site, node)) not in {"inactive", "failed"}:
                raise NotYet(f"{self.thing} on {node} is {state}")

    def give(self, site: Site, before: Before) -> Look:
        """Start it; it works when the node is Ready and says so anew."""
        works = node_works(site, self.nodes)
        self.order_back(site, before)

        def look() -> None:
            for node in self.nodes:
                if (state := self._state(site, node)) != "active":
                    raise NotYet(f"{self.thing} on {node} is {state}")
                site.run(node, "crictl", "info", timeout=10.0)
            works()

        return lambda: patiently(look)

    def order_back(self, site: Site, before: Before) -> None:  # noqa: ARG002  # as above
        """Start it."""
        for node in self.nodes:
            site.run(node, "systemctl", "start", self.thing, timeout=120.0)

    def _state(self, site: Site, node: str) -> str:
        return site.run(node, "systemctl", "is-active", self.thing, check=False).stdout.strip() or "unknown"


@dataclass(frozen=True)
class FrozenNode(Absence):
    """A node whose every process is frozen: its interfaces stay, nobody behind them answers.

    0.4 and 32 for a control plane, most of it until its node's Lease is renewed.
    """

    kind: ClassVar[str] = "frozen node"

    @property
    def title(self) -> str:
        """The node."""
        return f"node {self.thing} (frozen)"

    @property
    def down(self) -> frozenset[str]:
        """The node itself."""
        return frozenset({self.thing})

    def before(self, site: Site) -> Before:
        """That it runs."""
        if (state := site.state(self.thing)) != RUNNING:
            raise InfrastructureError(
                f"node {self.thing} is not there to be taken away",
                why=f"its container is {state}",
                next_step=f"`labctl heal {site.cluster.name}` puts back what is away",
            )
        return {"state": RUNNING}

    def take(self, site: Site, before: Before) -> None:  # noqa: ARG002  # the signature of all kinds
        """Freeze it."""
        site.docker.pause(site.container(self.thing))

    def gone(self, site: Site, before: Before) -> None:  # noqa: ARG002  # as above
        """Docker says that it is paused."""
        if (state := site.state(self.thing)) == RUNNING:
            raise NotYet(f"container {self.thing} is {state}")

    def give(self, site: Site, before: Before) -> Look:
        """Let it go on; it works when it is Ready and says so anew."""
        works = node_works(site, (self.thing,))
        self.order_back(site, before)
        return works

    def order_back(self, site: Site, before: Before) -> None:  # noqa: ARG002  # as above
        """Let it go on."""
        run_again(site.docker, site.container(self.thing))


@dataclass(frozen=True)
class StoppedNode(FrozenNode):
    """A node whose container is stopped: its addresses are gone too. 11 and 24 for a control plane."""

    kind: ClassVar[str] = "stopped node"

    @property
    def title(self) -> str:
        """The node."""
        return f"node {self.thing} (stopped)"

    def take(self, site: Site, before: Before) -> None:  # noqa: ARG002  # the signature of all kinds
        """Stop it, with docker's own grace time."""
        site.docker.stop(site.container(self.thing))


def run_again(docker: Docker, container: str) -> str:
    """Let a node's container run, from whatever state; returns what was done, '' for nothing."""
    state = docker.inspect(container)[0]["State"]["Status"]
    if state == "paused":
        docker.unpause(container)
        return "went on"
    if state != RUNNING:
        docker.start(container)
        return "started"
    return ""
