"""Kubernetes objects without the noise that every lab would repeat.

The labs create their objects with the official client in plain sight. What is here takes
away only what a learner need not read each time; what a probe pod is stands in
labctl.probe.objects. The objects are the client's own, so a lab can change whatever it wants afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kubernetes.client import (
    DiscoveryV1EndpointPort,
    V1Affinity,
    V1ConfigMap,
    V1ConfigMapVolumeSource,
    V1Container,
    V1Deployment,
    V1DeploymentSpec,
    V1EmptyDirVolumeSource,
    V1Endpoint,
    V1EndpointSlice,
    V1HostPathVolumeSource,
    V1ObjectMeta,
    V1PersistentVolume,
    V1PersistentVolumeClaim,
    V1PersistentVolumeClaimSpec,
    V1PersistentVolumeClaimVolumeSource,
    V1PersistentVolumeSpec,
    V1Pod,
    V1PodAffinityTerm,
    V1PodAntiAffinity,
    V1Service,
    V1ServicePort,
    V1ServiceSpec,
    V1Volume,
    V1VolumeResourceRequirements,
    V1WeightedPodAffinityTerm,
)

from labctl.probe.objects import APP_LABEL, SERVICE_PORT, container, pod_spec, selector, template

VolumeSource = str | V1ConfigMapVolumeSource
"""What a pod may mount: the name of a claim, `EMPTY_DIR`, or a ConfigMap."""

EMPTY_DIR = "emptyDir"
"""In a ``volumes`` argument: a directory that lives and dies with the pod, instead of a claim's name."""


def pod(
    name: str,
    *,
    app: str = "",
    node: str | None = None,
    volumes: Mapping[str, VolumeSource] | None = None,
    containers: Sequence[V1Container] = (),
    hostname: str = "",
    runs: Sequence[str] = (),
) -> V1Pod:
    """A pod that answers and dials. ``app`` is the label its Service looks for, ``node`` the node it must run on,
    ``volumes`` maps a path to what is mounted there, ``hostname`` is what it calls itself (else its name).
    With ``runs`` it runs this program until that succeeds, and ends."""
    spec = pod_spec(containers or [_mounting(volumes)], node=node, volumes=_volumes(volumes))
    spec.hostname = hostname or None
    if runs:
        spec.restart_policy = "OnFailure"
        spec.containers[0].command, spec.containers[0].args = list(runs), []
    return V1Pod(metadata=V1ObjectMeta(name=name, labels={APP_LABEL: app or name}), spec=spec)


def deployment(
    name: str, replicas: int, *, spread: bool = True, node: str | None = None, can_be_unready: bool = False
) -> V1Deployment:
    """A Deployment of probe pods with the label ``app=NAME``; ``spread`` keeps them on different nodes where it can."""
    spec = pod_spec([container(can_be_unready=can_be_unready)], node=node)
    if spread:
        spec.affinity = _apart(name)
    return V1Deployment(
        metadata=V1ObjectMeta(name=name, labels={APP_LABEL: name}),
        spec=V1DeploymentSpec(replicas=replicas, selector=selector(name), template=template(name, spec)),
    )


def claim(name: str, size: str = "16Mi", *, volume: str = "") -> V1PersistentVolumeClaim:
    """A claim for storage: from the default storage class, for one node at a time; or for the existing
    PersistentVolume ``volume``, for all nodes."""
    return V1PersistentVolumeClaim(
        metadata=V1ObjectMeta(name=name),
        spec=V1PersistentVolumeClaimSpec(
            access_modes=["ReadWriteMany" if volume else "ReadWriteOnce"],
            resources=V1VolumeResourceRequirements(requests={"storage": size}),
            volume_name=volume or None,
            storage_class_name="" if volume else None,
        ),
    )


def config_map(name: str, **data: str) -> V1ConfigMap:
    """A ConfigMap with these texts."""
    return V1ConfigMap(metadata=V1ObjectMeta(name=name), data=data)


def by_hand(name: str, *addresses: str) -> tuple[V1Service, V1EndpointSlice]:
    """A Service without a selector, and the addresses for which its name stands: a DNS name for what is no pod."""
    service = V1Service(
        metadata=V1ObjectMeta(name=name),
        spec=V1ServiceSpec(cluster_ip="None", ports=[V1ServicePort(port=SERVICE_PORT)]),
    )
    return service, V1EndpointSlice(
        metadata=V1ObjectMeta(name=name, labels={"kubernetes.io/service-name": name}),
        address_type="IPv4",
        endpoints=[V1Endpoint(addresses=[one]) for one in addresses],
        ports=[DiscoveryV1EndpointPort(port=SERVICE_PORT)],
    )


def volume(name: str, path: str, size: str = "16Mi") -> V1PersistentVolume:
    """A PersistentVolume in the directory ``path`` of the node where a pod runs: for a directory that nodes share."""
    return V1PersistentVolume(
        metadata=V1ObjectMeta(name=name),
        spec=V1PersistentVolumeSpec(
            capacity={"storage": size},
            access_modes=["ReadWriteMany"],
            persistent_volume_reclaim_policy="Retain",
            host_path=V1HostPathVolumeSource(path=path),
        ),
    )


def alias(name: str, target: str) -> V1Service:
    """A Service of type ExternalName: nothing but another name for ``target``."""
    return V1Service(
        metadata=V1ObjectMeta(name=name), spec=V1ServiceSpec(type="ExternalName", external_name=target)
    )


def _mounting(volumes: Mapping[str, VolumeSource] | None) -> V1Container:
    return container(mounts={path: f"volume-{number}" for number, path in enumerate(volumes or {})})


def _volumes(volumes: Mapping[str, VolumeSource] | None) -> list[V1Volume]:
    return [_volume(number, source) for number, source in enumerate((volumes or {}).values())]


def _volume(number: int, source: VolumeSource) -> V1Volume:
    if isinstance(source, V1ConfigMapVolumeSource):
        return V1Volume(name=f"volume-{number}", config_map=source)
    if source == EMPTY_DIR:
        return V1Volume(name=f"volume-{number}", empty_dir=V1EmptyDirVolumeSource())
    return V1Volume(
        name=f"volume-{number}",
        persistent_volume_claim=V1PersistentVolumeClaimVolumeSource(claim_name=source),
    )


def _apart(name: str) -> V1Affinity:
    term = V1PodAffinityTerm(label_selector=selector(name), topology_key="kubernetes.io/hostname")
    return V1Affinity(
        pod_anti_affinity=V1PodAntiAffinity(
            preferred_during_scheduling_ignored_during_execution=[
                V1WeightedPodAffinityTerm(weight=100, pod_affinity_term=term)
            ]
        )
    )
