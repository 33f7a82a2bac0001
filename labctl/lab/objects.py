"""Kubernetes objects without the noise that every lab would repeat.

The labs create their objects with the official client in plain sight. What is here takes
away only what a learner need not read each time: the fields that the restricted Pod
Security Standard demands, the probe image, its ports and its readiness. The objects are
the client's own, so a lab can change whatever it wants afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kubernetes.client import (
    V1Affinity,
    V1Capabilities,
    V1ConfigMapVolumeSource,
    V1Container,
    V1ContainerPort,
    V1DaemonSet,
    V1DaemonSetSpec,
    V1Deployment,
    V1DeploymentSpec,
    V1EmptyDirVolumeSource,
    V1EnvVar,
    V1EnvVarSource,
    V1ExecAction,
    V1HTTPGetAction,
    V1LabelSelector,
    V1ObjectFieldSelector,
    V1ObjectMeta,
    V1PersistentVolumeClaim,
    V1PersistentVolumeClaimSpec,
    V1PersistentVolumeClaimVolumeSource,
    V1Pod,
    V1PodAffinityTerm,
    V1PodAntiAffinity,
    V1PodSecurityContext,
    V1PodSpec,
    V1PodTemplateSpec,
    V1Probe,
    V1ResourceRequirements,
    V1SeccompProfile,
    V1SecurityContext,
    V1Toleration,
    V1Volume,
    V1VolumeMount,
    V1VolumeResourceRequirements,
)

from labctl.images.workloads import PROBE
from labctl.lab.probes import CONTAINER, PORT

APP_LABEL = "app"
"""The label by which the labs' Services find their pods."""

VolumeSource = str | V1ConfigMapVolumeSource
"""What a pod may mount: the name of a claim, `EMPTY_DIR`, or a ConfigMap."""

EMPTY_DIR = "emptyDir"
"""In a ``volumes`` argument: a directory that lives and dies with the pod, instead of a claim's name."""

UNREADY_FILE = "/tmp/unready"  # noqa: S108  # in a pod's own file system
"""While this file exists in a pod made with ``can_be_unready``, the pod is not ready."""

NOBODY = 65532
"""The user and group that probe pods run as; the image asks for root, the Pod Security Standard forbids it."""


def probe_container(
    name: str = CONTAINER,
    *,
    port: int = PORT,
    can_be_unready: bool = False,
    mounts: Mapping[str, str] | None = None,
) -> V1Container:
    """A container that serves agnhost's netexec on ``port`` (TCP) and ``port + 1`` (UDP).

    Its environment variable WHO holds "POD/NONCE", which `labctl.lab.probes.WHO` asks for. ``mounts``
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
            _from_field("NONCE", "metadata.labels['labctl.dev/nonce']"),
            V1EnvVar(name="WHO", value="$(POD)/$(NONCE)"),
            V1EnvVar(name="CONTAINER", value=name),
        ],
        readiness_probe=V1Probe(
            http_get=serving, _exec=ready, period_seconds=1, failure_threshold=1, timeout_seconds=5
        ),
        resources=V1ResourceRequirements(requests={"cpu": "10m", "memory": "16Mi"}),
        security_context=V1SecurityContext(
            allow_privilege_escalation=False, capabilities=V1Capabilities(drop=["ALL"])
        ),
        volume_mounts=[
            V1VolumeMount(name=volume, mount_path=path) for path, volume in (mounts or {}).items()
        ],
    )


def probe_pod(
    name: str,
    *,
    app: str = "",
    node: str | None = None,
    volumes: Mapping[str, VolumeSource] | None = None,
    containers: Sequence[V1Container] = (),
) -> V1Pod:
    """A pod that answers and dials. ``app`` is the label its Service looks for, ``node`` the node it must run on,
    ``volumes`` maps a path to what is mounted there."""
    return V1Pod(
        metadata=V1ObjectMeta(name=name, labels={APP_LABEL: app or name}),
        spec=_pod_spec(containers or [_with_volumes(volumes)], node=node, volumes=volumes),
    )


def probe_deployment(
    name: str, replicas: int, *, spread: bool = True, node: str | None = None, can_be_unready: bool = False
) -> V1Deployment:
    """A Deployment of probe pods with the label ``app=NAME``; ``spread`` keeps them on different nodes where it can."""
    spec = _pod_spec([probe_container(can_be_unready=can_be_unready)], node=node)
    if spread:
        spec.affinity = _apart(name)
    return V1Deployment(
        metadata=V1ObjectMeta(name=name, labels={APP_LABEL: name}),
        spec=V1DeploymentSpec(replicas=replicas, selector=_selector(name), template=_template(name, spec)),
    )


def probe_on_every_node(name: str, *, workers_only: bool = False) -> V1DaemonSet:
    """A DaemonSet of probe pods: one on every node, the control plane too unless ``workers_only``."""
    spec = _pod_spec([probe_container()])
    if not workers_only:
        spec.tolerations = [V1Toleration(operator="Exists", effect="NoSchedule")]
    return V1DaemonSet(
        metadata=V1ObjectMeta(name=name, labels={APP_LABEL: name}),
        spec=V1DaemonSetSpec(selector=_selector(name), template=_template(name, spec)),
    )


def claim(
    name: str, size: str = "16Mi", *, volume: str = "", shared: bool = False
) -> V1PersistentVolumeClaim:
    """A claim for storage: from the default storage class, or for the existing PersistentVolume ``volume``."""
    return V1PersistentVolumeClaim(
        metadata=V1ObjectMeta(name=name),
        spec=V1PersistentVolumeClaimSpec(
            access_modes=["ReadWriteMany" if shared else "ReadWriteOnce"],
            resources=V1VolumeResourceRequirements(requests={"storage": size}),
            volume_name=volume or None,
            storage_class_name="" if volume else None,
        ),
    )


def _pod_spec(
    containers: Sequence[V1Container],
    *,
    node: str | None = None,
    volumes: Mapping[str, VolumeSource] | None = None,
) -> V1PodSpec:
    return V1PodSpec(
        containers=list(containers),
        node_selector={"kubernetes.io/hostname": node} if node else None,
        volumes=[_volume(name, source) for name, source in enumerate((volumes or {}).values())],
        automount_service_account_token=False,
        enable_service_links=False,
        termination_grace_period_seconds=1,
        security_context=V1PodSecurityContext(
            run_as_non_root=True,
            run_as_user=NOBODY,
            run_as_group=NOBODY,
            fs_group=NOBODY,
            seccomp_profile=V1SeccompProfile(type="RuntimeDefault"),
        ),
    )


def _with_volumes(volumes: Mapping[str, VolumeSource] | None) -> V1Container:
    return probe_container(mounts={path: f"volume-{number}" for number, path in enumerate(volumes or {})})


def _volume(number: int, source: VolumeSource) -> V1Volume:
    if isinstance(source, V1ConfigMapVolumeSource):
        return V1Volume(name=f"volume-{number}", config_map=source)
    if source == EMPTY_DIR:
        return V1Volume(name=f"volume-{number}", empty_dir=V1EmptyDirVolumeSource())
    return V1Volume(
        name=f"volume-{number}",
        persistent_volume_claim=V1PersistentVolumeClaimVolumeSource(claim_name=source),
    )


def _selector(name: str) -> V1LabelSelector:
    return V1LabelSelector(match_labels={APP_LABEL: name})


def _template(name: str, spec: V1PodSpec) -> V1PodTemplateSpec:
    return V1PodTemplateSpec(metadata=V1ObjectMeta(labels={APP_LABEL: name}), spec=spec)


def _apart(name: str) -> V1Affinity:
    from kubernetes.client import V1WeightedPodAffinityTerm

    term = V1PodAffinityTerm(label_selector=_selector(name), topology_key="kubernetes.io/hostname")
    return V1Affinity(
        pod_anti_affinity=V1PodAntiAffinity(
            preferred_during_scheduling_ignored_during_execution=[
                V1WeightedPodAffinityTerm(weight=100, pod_affinity_term=term)
            ]
        )
    )


def _from_field(name: str, path: str) -> V1EnvVar:
    return V1EnvVar(name=name, value_from=V1EnvVarSource(field_ref=V1ObjectFieldSelector(field_path=path)))
