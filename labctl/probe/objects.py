"""The probe in the cluster: agnhost's netexec in a container, in pods, and Services in front of them.

One description for the proof of a cluster and for labs: the image, its ports, its readiness, and the
fields that the restricted Pod Security Standard demands. The objects are the official client's own, so
whoever gets one can change what he wants. It creates nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kubernetes.client import (
    V1Capabilities,
    V1Container,
    V1ContainerPort,
    V1DaemonSet,
    V1DaemonSetSpec,
    V1EnvVar,
    V1EnvVarSource,
    V1ExecAction,
    V1HTTPGetAction,
    V1LabelSelector,
    V1ObjectFieldSelector,
    V1ObjectMeta,
    V1PodDNSConfig,
    V1PodDNSConfigOption,
    V1PodSecurityContext,
    V1PodSpec,
    V1PodTemplateSpec,
    V1Probe,
    V1ResourceRequirements,
    V1SeccompProfile,
    V1SecurityContext,
    V1Service,
    V1ServicePort,
    V1ServiceSpec,
    V1Toleration,
    V1Volume,
    V1VolumeMount,
)

from labctl.images.workloads import PROBE
from labctl.probe import NONCE_LABEL

CONTAINER = "probe"
"""The container of a probe pod in which programs run, where a pod has several."""

PORT = 8080
"""Where a probe pod answers HTTP; UDP is one above."""

SERVICE_PORT = 80
"""Where a Service in front of probe pods answers."""

WHO = "envvar?var=WHO"
"""The request that a probe pod answers with "POD/NONCE": its name, and the nonce of the run that made it."""

APP_LABEL = "app"
"""The label by which Services find their pods."""

UNREADY_FILE = "/tmp/unready"  # noqa: S108  # in a pod's own file system
"""While this file exists in a pod made with ``can_be_unready``, the pod is not ready."""

EXEC_PERIOD_SECONDS = 2
"""Between two starts of the readiness probe's program: each takes some 50 ms of a core. At 1 s, 20 pods of labs
side by side kept both cores of a small machine busy."""

DNS_OPTIONS = {"timeout": "2", "attempts": "2"}
"""How long a name whose server is silent is asked for: two seconds, twice, for each name of the search list."""

NOBODY = 65532
"""The user and group that probe pods run as; the image asks for root, the Pod Security Standard forbids it."""


def container(
    name: str = CONTAINER,
    *,
    port: int = PORT,
    can_be_unready: bool = False,
    mounts: Mapping[str, str] | None = None,
) -> V1Container:
    """A container that serves agnhost's netexec on ``port`` (TCP) and ``port + 1`` (UDP).

    Its environment variable WHO holds "POD/NONCE", which `WHO` asks for. ``mounts``
    maps paths to names of volumes.
    """
    ready = V1ExecAction(command=["test", "!", "-e", UNREADY_FILE]) if can_be_unready else None
    serving = V1HTTPGetAction(path="/healthz", port=port) if ready is None else None
    return V1Container(
        name=name,
        image=PROBE,
        image_pull_policy="IfNotPresent",
        command=["/agnhost"],
        args=["netexec", f"--http-port={port}", f"--udp-port={port + 1}"],
        ports=[V1ContainerPort(container_port=port)],
        env=[
            _from_field("POD", "metadata.name"),
            _from_field("NONCE", f"metadata.labels['{NONCE_LABEL}']"),
            V1EnvVar(name="WHO", value="$(POD)/$(NONCE)"),
            V1EnvVar(name="CONTAINER", value=name),
        ],
        readiness_probe=V1Probe(
            http_get=serving,
            _exec=ready,
            # A request costs nothing; starting a program in a container each second, in many pods at once, does.
            period_seconds=1 if ready is None else EXEC_PERIOD_SECONDS,
            failure_threshold=1,
            timeout_seconds=5,
        ),
        resources=V1ResourceRequirements(requests={"cpu": "10m", "memory": "16Mi"}),
        security_context=V1SecurityContext(
            allow_privilege_escalation=False, capabilities=V1Capabilities(drop=["ALL"])
        ),
        volume_mounts=[
            V1VolumeMount(name=volume, mount_path=path) for path, volume in (mounts or {}).items()
        ],
    )


def pod_spec(
    containers: Sequence[V1Container], *, node: str | None = None, volumes: Sequence[V1Volume] = ()
) -> V1PodSpec:
    """What every probe pod is: of no user, without a token, ended within a second; on ``node`` where one is named."""
    return V1PodSpec(
        containers=list(containers),
        node_selector={"kubernetes.io/hostname": node} if node else None,
        volumes=list(volumes),
        automount_service_account_token=False,
        enable_service_links=False,
        dns_config=V1PodDNSConfig(
            options=[V1PodDNSConfigOption(name=name, value=value) for name, value in DNS_OPTIONS.items()]
        ),
        termination_grace_period_seconds=1,
        security_context=V1PodSecurityContext(
            run_as_non_root=True,
            run_as_user=NOBODY,
            run_as_group=NOBODY,
            fs_group=NOBODY,
            seccomp_profile=V1SeccompProfile(type="RuntimeDefault"),
        ),
    )


def template(name: str, spec: V1PodSpec, labels: Mapping[str, str] | None = None) -> V1PodTemplateSpec:
    """What a controller makes pods from; they carry ``app=NAME`` and ``labels``."""
    return V1PodTemplateSpec(metadata=V1ObjectMeta(labels={APP_LABEL: name, **(labels or {})}), spec=spec)


def selector(name: str) -> V1LabelSelector:
    """Finds the pods with ``app=NAME``."""
    return V1LabelSelector(match_labels={APP_LABEL: name})


def on_every_node(
    name: str, *, workers_only: bool = False, labels: Mapping[str, str] | None = None
) -> V1DaemonSet:
    """A DaemonSet of probe pods: one on every node, the control plane too unless ``workers_only``.

    The pods carry ``labels`` besides ``app=NAME``."""
    spec = pod_spec([container()])
    if not workers_only:
        spec.tolerations = [V1Toleration(operator="Exists", effect="NoSchedule")]
    return V1DaemonSet(
        metadata=V1ObjectMeta(name=name, labels={APP_LABEL: name}),
        spec=V1DaemonSetSpec(selector=selector(name), template=template(name, spec, labels)),
    )


def service(
    name: str, *, app: str = "", kind: str = "ClusterIP", node_port: int | None = None, **more: Any
) -> V1Service:
    """A Service in front of the probe pods with ``app=APP`` (else ``app=NAME``), on port 80.

    ``kind`` is the Service's type, ``node_port`` asks for one port of the nodes, ``more`` are fields of
    the client's V1ServiceSpec.
    """
    ports = [V1ServicePort(port=SERVICE_PORT, target_port=PORT, node_port=node_port)]
    spec = V1ServiceSpec(type=kind, selector={APP_LABEL: app or name}, ports=ports, **more)
    return V1Service(metadata=V1ObjectMeta(name=name), spec=spec)


def _from_field(name: str, path: str) -> V1EnvVar:
    return V1EnvVar(name=name, value_from=V1EnvVarSource(field_ref=V1ObjectFieldSelector(field_path=path)))
