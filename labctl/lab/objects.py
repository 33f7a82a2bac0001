"""Kubernetes objects without the noise that every lab would repeat.

The labs create their objects with the official client in plain sight. What is here takes
away only what a learner need not read each time; what a probe pod is stands in
labctl.probe.objects. The objects are the client's own, so a lab can change whatever it wants afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kubernetes.client import (
    V1Affinity,
    V1ConfigMapVolumeSource,
    V1Container,
    V1Deployment,
    V1DeploymentSpec,
    V1EmptyDirVolumeSource,
    V1ObjectMeta,
    V1PersistentVolumeClaim,
    V1PersistentVolumeClaimSpec,
    V1PersistentVolumeClaimVolumeSource,
    V1Pod,
    V1PodAffinityTerm,
    V1PodAntiAffinity,
    V1Volume,
    V1VolumeResourceRequirements,
    V1WeightedPodAffinityTerm,
)

from labctl.probe.objects import APP_LABEL, pod_spec, probe_container, selector, template

VolumeSource = str | V1ConfigMapVolumeSource
"""What a pod may mount: the name of a claim, `EMPTY_DIR`, or a ConfigMap."""

EMPTY_DIR = "emptyDir"
"""In a ``volumes`` argument: a directory that lives and dies with the pod, instead of a claim's name."""


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
        spec=pod_spec(containers or [_mounting(volumes)], node=node, volumes=_volumes(volumes)),
    )


def probe_deployment(
    name: str, replicas: int, *, spread: bool = True, node: str | None = None, can_be_unready: bool = False
) -> V1Deployment:
    """A Deployment of probe pods with the label ``app=NAME``; ``spread`` keeps them on different nodes where it can."""
    spec = pod_spec([probe_container(can_be_unready=can_be_unready)], node=node)
    if spread:
        spec.affinity = _apart(name)
    return V1Deployment(
        metadata=V1ObjectMeta(name=name, labels={APP_LABEL: name}),
        spec=V1DeploymentSpec(replicas=replicas, selector=selector(name), template=template(name, spec)),
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


def _mounting(volumes: Mapping[str, VolumeSource] | None) -> V1Container:
    return probe_container(mounts={path: f"volume-{number}" for number, path in enumerate(volumes or {})})


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
