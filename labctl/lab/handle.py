"""The one handle that a lab's functions get: the cluster as the lab may use it.

The official client's API objects stand in the open (`core`, `apps`, ...), because they are what the
learner came to see. Beside them are only what every lab needs: who the lab is, a memory
that outlives the process, and the probes. It decides nothing about checks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from labctl.errors import ApiRefused, InfrastructureError
from labctl.kube import Kube
from labctl.lab.absences import Absences, TakesAway
from labctl.lab.calls import LabApi
from labctl.lab.expectation import CheckFailed, Unmet
from labctl.lab.instance import Instance
from labctl.lab.words import Words
from labctl.probe.node import NodeProbe
from labctl.tools.docker import Docker

if TYPE_CHECKING:
    from kubernetes import client

    from labctl.cluster.running import RunningCluster

MEMORY = "labctl-memory"
"""The ConfigMap in a lab's first namespace that keeps what a later process must know."""


class Cluster(TakesAway, Words):
    """The cluster as one lab sees it; ``namespace`` is where its methods look by default."""

    def __init__(
        self,
        kube: Kube,
        running: RunningCluster,
        instance: Instance,
        *,
        docker: Docker | None = None,
        patience: float = 0.0,
        absences: Absences | None = None,
        alone: bool = True,
    ) -> None:
        self.kube = kube
        self.running = running
        self.docker = docker
        self.instance = instance
        self.namespaces: Mapping[str, str] = instance.namespaces
        self.namespace = next(iter(self.namespaces.values()))
        self.nonce = instance.nonce
        self.labels: Mapping[str, str] = instance.labels
        self.patience = patience
        """Seconds that a call waits for an API server that is away: none while something is looked at."""
        self.absences = absences or Absences(self, alone=alone)

    def patient(self, seconds: float) -> Cluster:
        """The same handle for what acts: its calls wait up to ``seconds`` for an API server that is away."""
        return self._again(patience=seconds)

    def pretending(self) -> Cluster:
        """The same handle for a placebo: nothing that it is told to take away is taken away."""
        return self._again(absences=Absences(self, placebo=True, alone=self.absences.alone))

    def _again(self, *, patience: float | None = None, absences: Absences | None = None) -> Cluster:
        return Cluster(
            self.kube,
            self.running,
            self.instance,
            docker=self.docker,
            patience=self.patience if patience is None else patience,
            absences=absences or self.absences,
        )

    # --- names

    def where(self, namespace: str = "") -> str:
        """The namespace that the lab's own name for it means; '' is its first one, any other name itself."""
        return self.namespaces.get(namespace, namespace) or self.namespace

    def own(self, name: str) -> str:
        """The name of a cluster-wide object of this instance: ``lab12-reader``, or ``lab12-x7kq-reader``."""
        return self.instance.own(name)

    def own_key(self, name: str) -> str:
        """The key of a label or taint that this instance puts on a node: ``lab12.labctl.dev/disk``."""
        return f"{self.instance.domain}/{name}"

    # --- the official client

    @property
    def core(self) -> client.CoreV1Api:
        """Pods, Services, ConfigMaps, Namespaces, Nodes, volumes."""
        return cast("client.CoreV1Api", self._api(self.kube.core))

    @property
    def apps(self) -> client.AppsV1Api:
        """Deployments, DaemonSets, StatefulSets."""
        return cast("client.AppsV1Api", self._api(self.kube.apps))

    @property
    def batch(self) -> client.BatchV1Api:
        """Jobs and CronJobs."""
        return cast("client.BatchV1Api", self._api(self.kube.batch))

    @property
    def networking(self) -> client.NetworkingV1Api:
        """NetworkPolicies and Ingresses."""
        return cast("client.NetworkingV1Api", self._api(self.kube.networking))

    @property
    def discovery(self) -> client.DiscoveryV1Api:
        """EndpointSlices."""
        return cast("client.DiscoveryV1Api", self._api(self.kube.discovery))

    @property
    def events(self) -> client.EventsV1Api:
        """Events, which support and never prove."""
        return cast("client.EventsV1Api", self._api(self.kube.events))

    @property
    def rbac(self) -> client.RbacAuthorizationV1Api:
        """Roles and their bindings."""
        return cast("client.RbacAuthorizationV1Api", self._api(self.kube.rbac))

    @property
    def authorization(self) -> client.AuthorizationV1Api:
        """Access reviews."""
        return cast("client.AuthorizationV1Api", self._api(self.kube.authorization))

    @property
    def authentication(self) -> client.AuthenticationV1Api:
        """Token reviews."""
        return cast("client.AuthenticationV1Api", self._api(self.kube.authentication))

    @property
    def storage(self) -> client.StorageV1Api:
        """StorageClasses."""
        return cast("client.StorageV1Api", self._api(self.kube.storage))

    @property
    def coordination(self) -> client.CoordinationV1Api:
        """Leases."""
        return cast("client.CoordinationV1Api", self._api(self.kube.coordination))

    @property
    def policy(self) -> client.PolicyV1Api:
        """PodDisruptionBudgets."""
        return cast("client.PolicyV1Api", self._api(self.kube.policy))

    @property
    def custom(self) -> client.CustomObjectsApi:
        """Objects of kinds that were added to the cluster."""
        return cast("client.CustomObjectsApi", self._api(self.kube.custom))

    # --- nodes

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of all nodes, the control plane first."""
        return (*self.control_planes, *self.workers)

    @property
    def workers(self) -> tuple[str, ...]:
        """The names of the worker nodes."""
        return tuple(node.name for node in self.running.nodes if node.role == "worker")

    @property
    def control_planes(self) -> tuple[str, ...]:
        """The names of the control-plane nodes."""
        return tuple(node.name for node in self.running.nodes if node.role != "worker")

    def address(self, node: str) -> str:
        """The address of a node on the network that all nodes share."""
        return str(self._node(node).address)

    # --- probes

    def node(self, name: str) -> NodeProbe:
        """A node, entered through its container; the lab says ``needs=["node access"]``."""
        container = self._node(name).container
        if self.docker is None or not container:
            raise InfrastructureError(
                f"node {name} cannot be entered",
                why="this cluster was reached through a kubeconfig only",
                next_step='say needs=["node access"] in the lab',
            )
        return NodeProbe(self.docker, container)

    def shared_directory(self) -> str:
        """A directory that is one and the same on every worker, by its path there. Raises `Unmet` without one."""
        mounts = [self.node(name).mounts() for name in self.workers] if self.docker else []
        for path, source in mounts[0].items() if len(mounts) > 1 else ():
            if all(each.get(path) == source for each in mounts):
                return path
        raise Unmet("needs a directory that two workers share, this cluster has none")

    # --- objects of this lab

    def pod(self, name: str, *, namespace: str = "") -> Any:
        """The V1Pod of that name; untyped here, because the client types every field as Optional."""
        return self.core.read_namespaced_pod(name=name, namespace=self.where(namespace))

    def uid(self, pod: str, *, namespace: str = "") -> str:
        """The UID of the pod that has this name now."""
        return str(self.pod(pod, namespace=namespace).metadata.uid)

    def acting_as(self, account: str, *, namespace: str = "") -> Kube:
        """A connection with the rights of a ServiceAccount only, by a token that lasts ten minutes."""
        from kubernetes.client import AuthenticationV1TokenRequest, V1TokenRequestSpec

        request = AuthenticationV1TokenRequest(spec=V1TokenRequestSpec(audiences=[], expiration_seconds=600))
        answer: Any = self.core.create_namespaced_service_account_token(
            name=account, namespace=self.where(namespace), body=request
        )
        return self.kube.with_token(str(answer.status.token))

    # --- memory

    def remember(self, **values: Any) -> None:
        """Keep JSON-able values in the cluster, for a later step or for `labctl lab verify` tomorrow."""
        data = {name: json.dumps(value) for name, value in values.items()}
        with self.kube.translated("remember in the lab's ConfigMap"):
            self.core.patch_namespaced_config_map(name=MEMORY, namespace=self.namespace, body={"data": data})

    def recall(self, name: str) -> Any:
        """What was remembered under ``name``; `CheckFailed` where nothing was."""
        try:
            with self.kube.translated("recall from the lab's ConfigMap"):
                data = self.core.read_namespaced_config_map(name=MEMORY, namespace=self.namespace).data or {}
        except ApiRefused as refused:
            if not refused.not_found:
                raise
            data = {}
        if name not in data:
            raise CheckFailed(f"nothing is remembered as {name!r}", expected="the steps of the lab have run")
        return json.loads(data[name])

    # --- inside

    def _api(self, api: Any) -> LabApi:
        return LabApi(self.kube, api, self.labels, self.patience)

    def _node(self, name: str) -> Any:
        found = next((node for node in self.running.nodes if node.name == name), None)
        if found is None:
            raise InfrastructureError(
                f"the cluster has no node {name}", why=f"it has {', '.join(self.nodes)}"
            )
        return found
