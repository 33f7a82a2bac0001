"""Volumes: what outlives a pod.

A container's files die with its pod. A PersistentVolumeClaim asks the cluster for storage
with a life of its own. A million random bytes go to two places at once, one beside the
container and one into the claim; then the pod is deleted, and another one looks for them.
"""

from labctl.lab import EMPTY_DIR, Cluster, Lab, claim, expect, gone, probe_pod, ready

lab = Lab(term="볼륨", namespace="lab11")

POD, CLAIM = "writer", "kept"
KEPT, LOST = "/kept/data", "/lost/data"
SIZE = 1_000_000


def create_writer(k8s: Cluster, claim_name: str = CLAIM) -> None:
    pod = probe_pod(POD, volumes={"/kept": claim_name, "/lost": EMPTY_DIR})
    k8s.core.create_namespaced_pod(namespace=lab.namespace, body=pod)


def volume_of_pod(k8s: Cluster) -> str:
    """The UID of the PersistentVolume behind the claim that the pod mounts, or an empty text."""
    used = [v.persistent_volume_claim.claim_name for v in k8s.pod(POD).spec.volumes if v.persistent_volume_claim]
    bound = k8s.core.read_namespaced_persistent_volume_claim(name=used[0], namespace=lab.namespace).spec.volume_name
    return str(k8s.core.read_persistent_volume(name=bound).metadata.uid) if bound else ""


@lab.step("Ask for storage and start a pod on it")
def start(k8s: Cluster) -> None:
    k8s.core.create_namespaced_persistent_volume_claim(namespace=lab.namespace, body=claim(CLAIM, size="16Mi"))
    create_writer(k8s)


@lab.step("Write the same random bytes to both places", when=ready(POD))
def write(k8s: Cluster) -> None:
    digest = k8s.probe(POD).write_random(SIZE, [KEPT, LOST], prefix=k8s.nonce)
    twin = k8s.probe(POD).sha256(LOST)
    k8s.remember(digest=digest, twin=twin, first_pod=k8s.uid(POD), volume=volume_of_pod(k8s))


@lab.step("Delete the pod")
def delete(k8s: Cluster) -> None:
    k8s.core.delete_namespaced_pod(name=POD, namespace=lab.namespace)


@lab.step("Start its successor on the same claim", when=gone(POD))
def replace(k8s: Cluster) -> None:
    create_writer(k8s)


@lab.check("Another pod finds the same bytes", within=60)
def bytes_survive(k8s: Cluster) -> None:
    written = k8s.recall("digest")
    expect(k8s.uid(POD) != k8s.recall("first_pod"), seen="still the first pod", expected="a successor with another UID")
    found = k8s.probe(POD).sha256(KEPT)
    expect(found == written, expected=f"SHA-256 {written}", seen=f"SHA-256 {found}" if found else f"no file {KEPT}")


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


@lab.sabotage("sixteen bytes of the file are overwritten", breaks=bytes_survive)
def overwrite(k8s: Cluster) -> None:
    k8s.probe(POD).output(["sh", "-c", f"printf XXXXXXXXXXXXXXXX | dd of={KEPT} bs=1 seek=12345 conv=notrunc"])


@lab.sabotage("the successor is given another claim", breaks=(bytes_survive, same_volume))
def other_claim(k8s: Cluster) -> None:
    k8s.core.delete_namespaced_pod(name=POD, namespace=lab.namespace, grace_period_seconds=0)
    k8s.core.create_namespaced_persistent_volume_claim(namespace=lab.namespace, body=claim("other"))
    create_writer(k8s, "other")


@lab.sabotage("somebody restores the file beside the container", breaks=rest_is_lost)
def restore(k8s: Cluster) -> None:
    k8s.probe(POD).output(["cp", KEPT, LOST])


@lab.hint()
def claim_is_pending(k8s: Cluster) -> str | None:
    """A claim without a volume: nobody made one."""
    found = k8s.core.read_namespaced_persistent_volume_claim(name=CLAIM, namespace=lab.namespace)
    if found.status.phase == "Bound":
        return None
    kinds = [one.metadata.name for one in k8s.storage.list_storage_class().items]
    wanted = found.spec.storage_class_name or "the default one, and there is none"
    return f"claim {CLAIM} is {found.status.phase}: it asks for storage class {wanted}; there are: {', '.join(kinds) or 'none'}"


@lab.hint()
def pod_is_missing(k8s: Cluster) -> str | None:
    return None if k8s.pods(POD) else f"pod {POD} does not exist; run the lab again: `labctl lab run 11`"
