"""Volumes: what outlives a pod.

A container's files die with its pod. A PersistentVolumeClaim asks the cluster for storage
with a life of its own. A million random bytes go to two places at once, one beside the
container and one into the claim; then the pod is deleted, and another one looks for them.

The claim's storage is a directory of one node, so the successor has to run there. Where the nodes
share a directory, a volume can lead from node to node; at the end the bytes go that way.
"""

from collections.abc import Iterator

from labctl.lab import Cluster, Experiment, Lab, advice, claim, expect, holds, pod, ready, volume

lab = Lab(term="볼륨", settled=[ready("writer")])


def create_writer(k8s: Cluster, claimed: str) -> None:
    body = pod("writer", volumes={"/kept": claimed, "/lost": "emptyDir"})
    k8s.core.create_namespaced_pod(namespace=k8s.namespace, body=body)


@lab.step("Ask for storage and start a pod on it")
def start(k8s: Cluster) -> None:
    k8s.core.create_namespaced_persistent_volume_claim(namespace=k8s.namespace, body=claim("kept"))
    create_writer(k8s, "kept")


@lab.step("Write the same random bytes to both places", when=ready("writer"))
def write(k8s: Cluster) -> None:
    writer = k8s.probe("writer")
    digest = writer.write_random(1_000_000, ["/kept/data", "/lost/data"], prefix=k8s.nonce)
    twin = writer.sha256("/lost/data")
    k8s.remember(digest=digest, twin=twin, pod=k8s.uids("writer"), volume=k8s.volume_of("writer"))


@lab.step("Delete the pod, and start a successor on the same claim")
def replace(k8s: Cluster, claimed: str = "kept") -> None:
    k8s.core.delete_namespaced_pod(name="writer", namespace=k8s.namespace, grace_period_seconds=0)
    create_writer(k8s, claimed)


@lab.check("Another pod finds the same bytes", within=60)
def bytes_survive(k8s: Cluster) -> None:
    k8s.expect_none_of("pod", k8s.uids("writer"))
    k8s.expect_same("digest", k8s.probe("writer").sha256("/kept/data"))


@lab.check("The successor mounts the same PersistentVolume")
def same_volume(k8s: Cluster) -> None:
    k8s.expect_same("volume", k8s.volume_of("writer"))


@lab.check("What lay beside the container is gone", control=bytes_survive)
def rest_is_lost(k8s: Cluster) -> None:
    k8s.expect_same("digest", k8s.recall("twin"))
    left = k8s.probe("writer").output(["ls", "-A", "/lost"]).split()
    expect(not left, seen=f"/lost holds {', '.join(left)}", expected="an empty directory")


@lab.experiment("Over storage that nodes share, the bytes reach another node", needs=["node access"])
def bytes_travel(k8s: Cluster) -> Experiment:
    k8s.recall("digest")
    here = k8s.pod("writer").spec.node_name
    with k8s.shared_room() as path:
        k8s.core.create_persistent_volume(body=volume(k8s.own("shared"), path))
        wanted = claim("shared", volume=k8s.own("shared"))
        k8s.core.create_namespaced_persistent_volume_claim(namespace=k8s.namespace, body=wanted)
        both, copy = {"/kept": "kept", "/shared": "shared"}, ["cp", "/kept/data", "/shared/data"]
        receiver = pod("receiver", node=k8s.another_worker(here), volumes={"/shared": "shared"})
        for body in (pod("carrier", node=here, volumes=both, runs=copy), receiver):
            k8s.core.create_namespaced_pod(namespace=k8s.namespace, body=body)

        def arrived(k8s: Cluster) -> None:
            k8s.expect_same("digest", k8s.one_of("receiver").sha256("/shared/data"))

        yield holds("What one pod copies to the shared volume, a pod elsewhere finds", arrived, within=90)


@lab.sabotage("sixteen bytes of the file are overwritten", breaks=bytes_survive)
def overwrite(k8s: Cluster) -> None:
    spoil = "printf XXXXXXXXXXXXXXXX | dd of=/kept/data bs=1 seek=12345 conv=notrunc"
    k8s.probe("writer").output(["sh", "-c", spoil])


@lab.sabotage("the successor is given another claim", breaks=(bytes_survive, same_volume))
def other_claim(k8s: Cluster) -> None:
    k8s.core.create_namespaced_persistent_volume_claim(namespace=k8s.namespace, body=claim("other"))
    replace(k8s, "other")


@lab.sabotage("somebody restores the file beside the container", breaks=rest_is_lost)
def restore(k8s: Cluster) -> None:
    k8s.probe("writer").output(["cp", "/kept/data", "/lost/data"])


@lab.sabotage("on the other node the shared directory is not shared", breaks=bytes_travel)
def not_shared(k8s: Cluster) -> Iterator[None]:
    path, node = k8s.shared_path(), k8s.node(k8s.another_worker(k8s.pod("writer").spec.node_name))
    node.output(["mkdir", "--parents", path])
    node.output(["mount", "-t", "tmpfs", "-o", "mode=0777", "tmpfs", path])
    yield
    node.run(["umount", "--lazy", path])


lab.hint(advice.claim_is_bound("kept"))
