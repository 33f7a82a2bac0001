"""Volumes: what outlives a pod.

A container's files die with its pod. A PersistentVolumeClaim asks the cluster for storage
with a life of its own. A million random bytes go to two places at once, one beside the
container and one into the claim; then the pod is deleted, and another one looks for them.

The claim's storage is a directory of one node, so the successor has to run there. Where the nodes
share a directory, a volume can follow its pod to another node; that is tried at the end.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from secrets import token_hex

from kubernetes.client import (
    V1HostPathVolumeSource,
    V1ObjectMeta,
    V1PersistentVolume,
    V1PersistentVolumeSpec,
)

from labctl.lab import (
    EMPTY_DIR,
    Cluster,
    Experiment,
    Lab,
    Unmet,
    claim,
    expect,
    gone,
    holds,
    probe_pod,
    ready,
)

lab = Lab(term="볼륨")

POD, CLAIM = "writer", "kept"
KEPT, LOST = "/kept/data", "/lost/data"
SIZE = 1_000_000


def create_writer(k8s: Cluster, claim_name: str = CLAIM) -> None:
    pod = probe_pod(POD, volumes={"/kept": claim_name, "/lost": EMPTY_DIR})
    k8s.core.create_namespaced_pod(namespace=k8s.namespace, body=pod)


def volume_of_pod(k8s: Cluster) -> str:
    """The UID of the PersistentVolume behind the claim that the pod mounts, or an empty text."""
    used = [
        v.persistent_volume_claim.claim_name for v in k8s.pod(POD).spec.volumes if v.persistent_volume_claim
    ]
    bound = k8s.core.read_namespaced_persistent_volume_claim(
        name=used[0], namespace=k8s.namespace
    ).spec.volume_name
    return str(k8s.core.read_persistent_volume(name=bound).metadata.uid) if bound else ""


@lab.step("Ask for storage and start a pod on it")
def start(k8s: Cluster) -> None:
    k8s.core.create_namespaced_persistent_volume_claim(
        namespace=k8s.namespace, body=claim(CLAIM, size="16Mi")
    )
    create_writer(k8s)


@lab.step("Write the same random bytes to both places", when=ready(POD))
def write(k8s: Cluster) -> None:
    digest = k8s.probe(POD).write_random(SIZE, [KEPT, LOST], prefix=k8s.nonce)
    twin = k8s.probe(POD).sha256(LOST)
    k8s.remember(digest=digest, twin=twin, first_pod=k8s.uid(POD), volume=volume_of_pod(k8s))


@lab.step("Delete the pod")
def delete(k8s: Cluster) -> None:
    k8s.core.delete_namespaced_pod(name=POD, namespace=k8s.namespace)


@lab.step("Start its successor on the same claim", when=gone(POD))
def replace(k8s: Cluster) -> None:
    create_writer(k8s)


@lab.check("Another pod finds the same bytes", within=60)
def bytes_survive(k8s: Cluster) -> None:
    written = k8s.recall("digest")
    expect(
        k8s.uid(POD) != k8s.recall("first_pod"),
        seen="still the first pod",
        expected="a successor with another UID",
    )
    found = k8s.probe(POD).sha256(KEPT)
    expect(
        found == written,
        expected=f"SHA-256 {written}",
        seen=f"SHA-256 {found}" if found else f"no file {KEPT}",
    )


@lab.check("The successor mounts the same PersistentVolume")
def same_volume(k8s: Cluster) -> None:
    before, now = k8s.recall("volume"), volume_of_pod(k8s)
    expect(bool(now) and now == before, expected=f"volume {before}", seen=f"volume {now or 'none'}")


@lab.check("What lay beside the container is gone", control=bytes_survive)
def rest_is_lost(k8s: Cluster) -> None:
    written, twin = k8s.recall("digest"), k8s.recall("twin")
    expect(twin == written, seen=f"SHA-256 {twin}", expected=f"the first pod had both copies, {written}")
    left = k8s.probe(POD).output(["ls", "-A", "/lost"]).split()
    expect(not left, seen=f"/lost holds {', '.join(left)}", expected="an empty directory")


@contextmanager
def shared_room(k8s: Cluster, name: str) -> Iterator[str]:
    """An empty directory that is one and the same on all workers; gone after the block."""
    path = f"{k8s.shared_directory()}/{name}"
    node = k8s.node(k8s.workers[0])
    node.output(["mkdir", "--mode=0777", path])
    try:
        yield path
    finally:
        node.output(["rm", "-rf", path])


def create_shared(k8s: Cluster, name: str, path: str) -> None:
    """A volume in the directory that the nodes share, and a claim for exactly this volume."""
    spec = V1PersistentVolumeSpec(
        capacity={"storage": "16Mi"},
        access_modes=["ReadWriteMany"],
        persistent_volume_reclaim_policy="Retain",
        host_path=V1HostPathVolumeSource(path=path, type="DirectoryOrCreate"),
    )
    k8s.core.create_persistent_volume(body=V1PersistentVolume(metadata=V1ObjectMeta(name=name), spec=spec))
    body = claim(name, volume=name, shared=True)
    k8s.core.create_namespaced_persistent_volume_claim(namespace=k8s.namespace, body=body)


def create_mover(k8s: Cluster, name: str, node: str) -> None:
    pod = probe_pod(name, node=node, volumes={"/shared": name})
    k8s.core.create_namespaced_pod(namespace=k8s.namespace, body=pod)


@lab.experiment("On storage that the nodes share, the bytes are found on another node")
def bytes_travel(k8s: Cluster) -> Experiment:
    name = k8s.own(f"mover-{token_hex(4)}")
    with shared_room(k8s, name) as path:
        here, there = k8s.workers[:2]
        create_shared(k8s, name, path)
        create_mover(k8s, name, here)
        yield holds("A pod on one node mounts the shared volume", ready(name), within=60)
        digest = k8s.probe(name).write_random(SIZE, ["/shared/data"], prefix=k8s.nonce)
        first = k8s.uid(name)
        k8s.core.delete_namespaced_pod(name=name, namespace=k8s.namespace)
        yield holds("It is deleted", gone(name), within=60)
        create_mover(k8s, name, there)

        def same_bytes(k8s: Cluster) -> None:
            pod = k8s.pod(name)
            expect(
                pod.spec.node_name == there and pod.metadata.uid != first,
                seen=f"a pod on {pod.spec.node_name}",
            )
            found = k8s.probe(name).sha256("/shared/data")
            expect(
                found == digest,
                expected=f"SHA-256 {digest}",
                seen=f"SHA-256 {found}" if found else "no such file",
            )

        yield holds("Another pod, on another node, finds the same bytes", same_bytes, within=60)


@lab.sabotage("sixteen bytes of the file are overwritten", breaks=bytes_survive)
def overwrite(k8s: Cluster) -> None:
    k8s.probe(POD).output(
        ["sh", "-c", f"printf XXXXXXXXXXXXXXXX | dd of={KEPT} bs=1 seek=12345 conv=notrunc"]
    )


@lab.sabotage("the successor is given another claim", breaks=(bytes_survive, same_volume))
def other_claim(k8s: Cluster) -> None:
    k8s.core.delete_namespaced_pod(name=POD, namespace=k8s.namespace, grace_period_seconds=0)
    k8s.core.create_namespaced_persistent_volume_claim(namespace=k8s.namespace, body=claim("other"))
    create_writer(k8s, "other")


@lab.sabotage("somebody restores the file beside the container", breaks=rest_is_lost)
def restore(k8s: Cluster) -> None:
    k8s.probe(POD).output(["cp", KEPT, LOST])


@lab.sabotage("the second node's directory is another one", breaks=bytes_travel)
def not_shared(k8s: Cluster) -> Iterator[None]:
    try:
        path = k8s.shared_directory()
    except Unmet:
        yield
        return
    node = k8s.node(k8s.workers[1])
    node.output(["mount", "-t", "tmpfs", "-o", "mode=0777", "tmpfs", path])
    yield
    node.output(["umount", "--lazy", path])


@lab.hint()
def claim_is_pending(k8s: Cluster) -> str | None:
    """A claim without a volume: nobody made one."""
    found = k8s.core.read_namespaced_persistent_volume_claim(name=CLAIM, namespace=k8s.namespace)
    if found.status.phase == "Bound":
        return None
    kinds = [one.metadata.name for one in k8s.storage.list_storage_class().items]
    wanted = found.spec.storage_class_name or "the default one, and there is none"
    return f"claim {CLAIM} is {found.status.phase}: it wants {wanted}; storage classes: {', '.join(kinds) or 'none'}"


@lab.hint()
def pod_is_missing(k8s: Cluster) -> str | None:
    return None if k8s.pods(POD) else f"pod {POD} does not exist; run the lab again: `labctl lab run 11`"
