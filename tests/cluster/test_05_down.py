"""`labctl down`: nothing is left, and doing it again is no error."""

from __future__ import annotations

from labctl import paths
from labctl.tools.docker import Docker

from .conftest import KIND_CLUSTER, Labctl


def test_down_leaves_nothing_and_may_be_repeated(labctl: Labctl, docker: Docker, cluster: str) -> None:
    mounts = {
        mount["Name"]
        for node in docker.inspect(*(one.id for one in docker.containers({KIND_CLUSTER: cluster})))
        for mount in node["Mounts"]
        if mount["Type"] == "volume"
    }
    assert mounts
    labctl("down", cluster)
    assert docker.containers({KIND_CLUSTER: cluster}) == []
    assert not mounts & set(docker.volumes({}))
    assert not paths.cluster_state(cluster).exists()
    assert docker.image(f"labctl/cluster:{cluster}") is None
    labctl("down", cluster)
