"""The words in which a lab's story is told: short ways to say what several labs need to say.

A part of the handle, in a module of its own because it knows only what the handle offers: API objects,
probes, memory. Nothing here decides whether a lab holds; a word that looks raises `CheckFailed`.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection, Iterator, Sequence
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

from labctl import kubewords
from labctl.errors import InfrastructureError
from labctl.lab.callers import Beside, PodCaller, ThisMachine
from labctl.lab.expectation import Unmet, expect
from labctl.network import addons
from labctl.network.pool import Pool
from labctl.network.pool import parse as parse_pool
from labctl.probe.objects import APP_LABEL, PORT, SERVICE_PORT
from labctl.probe.outside import networks_of

if TYPE_CHECKING:
    from kubernetes import client

    from labctl.cluster.running import RunningCluster
    from labctl.kube import Kube
    from labctl.probe.node import NodeProbe
    from labctl.tools.docker import Docker


class Words:
    """What `labctl.lab.handle.Cluster` can say beyond the official client."""

    if TYPE_CHECKING:
        kube: Kube
        running: RunningCluster
        docker: Docker | None
        namespace: str
        nonce: str

        @property
        def core(self) -> client.CoreV1Api: ...  # noqa: D102  # the handle's

        @property
        def discovery(self) -> client.DiscoveryV1Api: ...  # noqa: D102  # the handle's

        @property
        def nodes(self) -> tuple[str, ...]: ...  # noqa: D102  # the handle's

        @property
        def workers(self) -> tuple[str, ...]: ...  # noqa: D102  # the handle's

        def where(self, namespace: str = "") -> str: ...  # noqa: D102  # the handle's

        def own(self, name: str) -> str: ...  # noqa: D102  # the handle's

        def shared_directory(self) -> str: ...  # noqa: D102  # the handle's

        def node(self, name: str) -> NodeProbe: ...  # noqa: D102  # the handle's

        def recall(self, name: str) -> Any: ...  # noqa: D102  # the handle's

    # --- workers

    def another_worker(self, than: str) -> str:
        """A worker that is not this node. Raises `Unmet` where there is none."""
        for worker in self.workers:
            if worker != than:
                return worker
        raise Unmet("needs two workers")

    def shared_path(self) -> str:
        """A path for this run in the directory that all workers share. Raises `Unmet` without one."""
        return f"{self.shared_directory()}/{self.own('shared')}"

    @contextlib.contextmanager
    def shared_room(self) -> Iterator[str]:
        """`shared_path` as an empty directory, which is one and the same on all workers and gone after the block."""
        path, node = self.shared_path(), self.node(self.workers[0])
        node.output(["mkdir", "--parents", "--mode=0777", path])
        try:
            yield path
        finally:
            # A fault may have mounted something over it on just this node, and a mount point cannot be removed.
            if node.run(["mountpoint", "--quiet", path]).ok:
                node.output(["umount", "--lazy", path])
            node.output(["rm", "-rf", path])

    # --- who calls

    def probe(self, pod: str, *, namespace: str = "", port: int = PORT) -> PodCaller:
        """A probe pod of this lab by its name: it calls, resolves names and touches files."""
        return PodCaller(self.kube, self.where(namespace), pod, port=port, nonce=self.nonce)

    def one_of(self, app: str, *, namespace: str = "") -> PodCaller:
        """Some pod with ``app=APP``, to call from. Raises `CheckFailed` where there is none."""
        return self.probe(self.some_pods(app, namespace=namespace)[0].metadata.name, namespace=namespace)

    def one_on_each_node(self, app: str, *, namespace: str = "") -> list[PodCaller]:
        """A pod with ``app=APP`` from each node, to call from. Raises `CheckFailed` where one is missing."""
        found = {pod.spec.node_name: pod.metadata.name for pod in self.pods(app, namespace=namespace)}
        missing = [node for node in self.nodes if node not in found]
        expect(
            not missing,
            seen=f"no pod with {APP_LABEL}={app} on {kubewords.summary(missing)}",
            expected="one on each node",
        )
        return [self.probe(found[node], namespace=namespace) for node in self.nodes]

    @functools.cached_property
    def outside(self) -> ThisMachine:
        """This machine, which is no node, as a caller."""
        addresses = [node.address for node in self.running.nodes]
        return ThisMachine(networks_of(addresses, self.docker), nonce=self.nonce)

    @property
    def this_machine(self) -> str:
        """The address of this machine on the nodes' network."""
        return self.outside.address_towards(next(node.address for node in self.running.nodes if node.address))

    @property
    def bystander(self) -> Beside:
        """A machine on the nodes' network that is no node and cannot leave it: ``needs=["node access"]``."""
        containers = self.running.containers
        if self.docker is None or not containers:
            raise InfrastructureError(
                "nobody can stand beside the nodes",
                why="this cluster was reached through a kubeconfig only",
                next_step='say needs=["node access"] in the lab',
            )
        return Beside(self.docker, containers[0], nonce=self.nonce)

    # --- pods

    def pods(self, app: str = "", *, made_by: str = "", namespace: str = "") -> list[Any]:
        """The V1Pods with ``app=APP`` (else: all of the namespace) that are not being deleted, by name.

        ``made_by`` keeps those of the Deployment, DaemonSet or other controller of that name: whoever else carries
        the label does not belong to them.
        """
        found: list[Any] = self.core.list_namespaced_pod(
            namespace=self.where(namespace), label_selector=f"{APP_LABEL}={app}" if app else ""
        ).items
        alive = [pod for pod in found if pod.metadata.deletion_timestamp is None]
        ours = [pod for pod in alive if not made_by or _made_by(pod, made_by)]
        return sorted(ours, key=lambda pod: str(pod.metadata.name))

    def some_pods(self, app: str, *, count: int = 0, made_by: str = "", namespace: str = "") -> list[Any]:
        """The same: ``count`` of them, or at least one. Raises `CheckFailed` where there are not so many."""
        found = self.pods(app, made_by=made_by, namespace=namespace)
        enough = len(found) == count if count else bool(found)
        expect(enough, seen=f"{len(found)} pod(s) with {APP_LABEL}={app}", expected=count or "at least one")
        return found

    def uids(self, app: str, *, made_by: str = "", namespace: str = "") -> list[str]:
        """The UIDs of those pods."""
        return [str(pod.metadata.uid) for pod in self.pods(app, made_by=made_by, namespace=namespace)]

    def pod_ip(self, pod: str, *, namespace: str = "") -> str:
        """The address that Kubernetes reports for a pod. Raises `CheckFailed` while it reports none."""
        found: Any = self.core.read_namespaced_pod(name=pod, namespace=self.where(namespace))
        expect(bool(found.status.pod_ip), seen=f"pod {pod} has no address yet", expected="an address")
        return str(found.status.pod_ip)

    def expect_a_pods_address(self, pod: str) -> None:
        """A pod's address is no node's, and is of its own node's range (spec.podCIDRs) where the CNI plugin uses
        those; one with ranges of its own keeps to them."""
        found: Any = self.core.read_namespaced_pod(name=pod, namespace=self.namespace)
        address, node = self.pod_ip(pod), str(found.spec.node_name)
        nodes = {one.address for one in self.running.nodes}
        expect(address not in nodes, seen=f"{pod} has {address}", expected="an address that no node has")
        if addons.cni(self.running.cni or "").node_ranges:
            ranges: list[str] = self.core.read_node(name=node).spec.pod_cidrs or []  # type: ignore[union-attr]  # it has one
            held = any(ip_address(address) in ip_network(one) for one in ranges)
            expect(held, seen=f"{pod} has {address}", expected=f"one of {node}'s range {', '.join(ranges)}")

    def volume_of(self, pod: str) -> str:
        """The name of the PersistentVolume behind the first claim that a pod mounts, or ''."""
        found: Any = self.core.read_namespaced_pod(name=pod, namespace=self.namespace)
        claims = [
            one.persistent_volume_claim for one in found.spec.volumes or () if one.persistent_volume_claim
        ]
        expect(bool(claims), seen=f"pod {pod} mounts no claim", expected="a claim")
        claim: Any = self.core.read_namespaced_persistent_volume_claim(
            name=claims[0].claim_name, namespace=self.namespace
        )
        return str(claim.spec.volume_name or "")

    def in_network_of(self, pod: str, command: str) -> str:
        """What a command of the node prints in a pod's network; what it changes there goes with the pod."""
        found: Any = self.core.read_namespaced_pod(name=pod, namespace=self.namespace)
        return self.node(found.spec.node_name).in_pod_network(found.metadata.uid, command.split())

    # --- Services

    def dns_name(self, service: str, *, namespace: str = "") -> str:
        """The full name of a Service in the cluster's DNS."""
        return f"{service}.{self.where(namespace)}.svc.cluster.local"

    def address_of(self, service: str, *, namespace: str = "") -> str:
        """The ClusterIP of a Service. Raises `CheckFailed` where it has none."""
        address = str(self._service(service, namespace).spec.cluster_ip or "None")
        expect(address != "None", seen=f"Service {service} has no ClusterIP", expected="an address")
        return address

    def outside_address_of(self, service: str, *, namespace: str = "") -> str:
        """The address that a load balancer gave to a Service. Raises `CheckFailed` while it has none."""
        balancer = self._service(service, namespace).status.load_balancer
        found = [str(one.ip) for one in (balancer.ingress if balancer else None) or () if one.ip]
        expect(bool(found), seen=f"Service {service} has no outside address", expected="an address")
        return found[0]

    def expect_no_outside_address(self, service: str, *, namespace: str = "") -> None:
        """No load balancer has given this Service an address."""
        balancer = self._service(service, namespace).status.load_balancer
        given = [one.ip or one.hostname for one in (balancer.ingress if balancer else None) or ()]
        expect(not given, seen=f"Service {service} has {', '.join(map(str, given))}", expected="no address")

    @property
    def pool(self) -> Pool | None:
        """The addresses that this cluster's load balancer may lend; None where labctl did not choose them."""
        return parse_pool(self.running.pool) if self.running.pool else None

    def node_ports(self) -> set[int]:
        """The ports of the nodes that Services of the cluster use."""
        services: list[Any] = self.core.list_service_for_all_namespaces().items
        return {int(port.node_port) for one in services for port in one.spec.ports or () if port.node_port}

    def node_port_of(self, service: str, *, namespace: str = "") -> int:
        """The port that a Service opens on the nodes. Raises `CheckFailed` where it opens none."""
        port = self._service(service, namespace).spec.ports[0].node_port
        expect(bool(port), seen=f"Service {service} opens no port", expected="a port on each node")
        return int(port)

    def endpoints_of(self, service: str, *, namespace: str = "") -> set[str]:
        """The addresses of the ready endpoints that a Service's EndpointSlices list."""
        slices: list[Any] = self.discovery.list_namespaced_endpoint_slice(
            namespace=self.where(namespace), label_selector=f"kubernetes.io/service-name={service}"
        ).items
        endpoints = [one for piece in slices for one in piece.endpoints or () if one.conditions]
        return {address for one in endpoints if one.conditions.ready for address in one.addresses}

    def expect_endpoints(self, service: str, pods: Sequence[Any]) -> None:
        """A Service's EndpointSlices list exactly these pods as ready."""
        listed, wanted = self.endpoints_of(service), {str(pod.status.pod_ip) for pod in pods}
        expect(listed == wanted, seen=f"{service} lists {sorted(listed)}", expected=sorted(wanted))

    def _service(self, name: str, namespace: str) -> Any:
        return self.core.read_namespaced_service(name=name, namespace=self.where(namespace))

    def node_behind(self, address: str) -> str:
        """The node whose network interface this machine finds behind an address. Raises `CheckFailed` for none."""
        call = self.outside.dial(address, SERVICE_PORT)  # so that the machine asks who has the address
        found = self.outside.neighbour(address)
        nodes = {self.node(name).mac(): name for name in self.nodes}
        expect(found in nodes, seen=f"behind it is {found or 'nobody'}; {call}", expected="a node")
        return nodes[found]

    # --- then and now

    def expect_same(self, name: str, now: object) -> None:
        """What was remembered as ``name`` is what there is now."""
        before = self.recall(name)
        expect(now == before, seen=f"{name}: {now}", expected=f"{name}: {before}, as remembered")

    def expect_none_of(self, name: str, now: Collection[object]) -> None:
        """Nothing of what was remembered as ``name`` is there now, and something else is."""
        left = [one for one in now if one in self.recall(name)]
        expect(bool(now), seen=f"{name}: nothing is there any more", expected="others in their place")
        expect(
            not left,
            seen=f"{name}: still there: {kubewords.summary(map(str, left))}",
            expected="none of them",
        )


def _made_by(pod: Any, name: str) -> bool:
    """Whether the pod's controller is ``name``, or the ReplicaSet of a Deployment ``name``."""
    owners = pod.metadata.owner_references or ()
    return any(
        one.name == name or (one.kind == "ReplicaSet" and one.name.rpartition("-")[0] == name)
        for one in owners
    )
