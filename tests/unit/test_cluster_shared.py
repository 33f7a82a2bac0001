"""The directory that all nodes share: made with the mark, mounted everywhere, removed with the cluster."""

from __future__ import annotations

from labctl.cluster import shared
from labctl.cluster.mark import CLUSTER, OWNER, Mark
from labctl.cluster.spec import ClusterSpec
from labctl.cluster.up import kindconfig
from tests.unit.fakes.fleet import Fleet


def test_the_volume_carries_the_owners_mark_and_goes_with_the_cluster() -> None:
    docker = Fleet()
    spec = ClusterSpec(name="one")
    directory = shared.make(docker, Mark("one", "abc", 0, spec))
    assert directory == "/volumes/labctl-shared-one"
    assert docker.known_volumes == {"labctl-shared-one": {CLUSTER: "one", OWNER: "abc"}}
    shared.take_away(docker, "another")
    assert docker.known_volumes
    shared.take_away(docker, "one")
    shared.take_away(docker, "one")
    assert not docker.known_volumes


def test_every_node_mounts_the_same_directory() -> None:
    nodes = kindconfig.config(ClusterSpec(workers=2), shared_directory="/volumes/x")["nodes"]
    assert len(nodes) == 3
    assert all(
        node["extraMounts"] == [{"hostPath": "/volumes/x", "containerPath": shared.PATH}] for node in nodes
    )


def test_a_rendered_file_for_kind_alone_names_no_directory_of_ours() -> None:
    assert all("extraMounts" not in node for node in kindconfig.config(ClusterSpec())["nodes"])


def test_a_mount_of_the_cluster_file_is_one_more() -> None:
    theirs = {"hostPath": "/data", "containerPath": "/data"}
    spec = ClusterSpec(workers=1, kind={"nodes": [{"extraMounts": [theirs]}]})
    first, second = kindconfig.config(spec, shared_directory="/volumes/x")["nodes"]
    assert first["extraMounts"] == [*shared.mounts("/volumes/x"), theirs]
    assert second["extraMounts"] == shared.mounts("/volumes/x")
    assert kindconfig.config(spec)["nodes"][0]["extraMounts"] == [theirs]
