"""The directory that all nodes share: made with the mark, mounted everywhere, removed with the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from labctl.cluster import shared
from labctl.cluster.mark import CLUSTER, OWNER, Mark
from labctl.cluster.spec import ClusterSpec
from labctl.cluster.up import kindconfig
from labctl.tools.docker import Docker


class FakeDocker:
    """Keeps volumes by name."""

    def __init__(self) -> None:
        self.volumes: dict[str, Mapping[str, str]] = {}

    def create_volume(self, name: str, labels: Mapping[str, str]) -> str:
        self.volumes.setdefault(name, labels)
        return f"/var/lib/docker/volumes/{name}/_data"

    def remove_volume(self, name: str) -> None:
        self.volumes.pop(name, None)


def test_the_volume_carries_the_owners_mark_and_goes_with_the_cluster() -> None:
    docker = FakeDocker()
    spec = ClusterSpec(name="one")
    directory = shared.make(cast(Docker, docker), Mark("one", "abc", 0, spec))
    assert directory.endswith("labctl-shared-one/_data")
    assert docker.volumes == {"labctl-shared-one": {CLUSTER: "one", OWNER: "abc"}}
    shared.take_away(cast(Docker, docker), "another")
    assert docker.volumes
    shared.take_away(cast(Docker, docker), "one")
    shared.take_away(cast(Docker, docker), "one")
    assert not docker.volumes


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
