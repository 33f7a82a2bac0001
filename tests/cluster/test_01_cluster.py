"""The cluster that `labctl up` makes: proven, private, left alone, and no danger to others."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pykube
import pytest
from pytest_kind import KindCluster

from labctl import process
from labctl.cluster.spec import ClusterSpec
from labctl.cluster.up import demands, kindconfig
from labctl.tools.docker import Docker
from labctl.tools.kind import Kind

from .conftest import CONFIG, Labctl, Stopwatch, containers, node_image

NO_OP_SECONDS = 3.0
FOREIGN = "labctl-test-foreign"


def test_every_node_is_ready(kind_cluster: KindCluster) -> None:
    nodes = json.loads(kind_cluster.kubectl("get", "nodes", "--output=json"))["items"]
    ready = {
        node["metadata"]["name"]: condition["status"]
        for node in nodes
        for condition in node["status"]["conditions"]
        if condition["type"] == "Ready"
    }
    assert ready == dict.fromkeys(
        ("labctl-test-control-plane", "labctl-test-worker", "labctl-test-worker2"), "True"
    )


def test_another_client_reaches_it_with_the_private_kubeconfig(kind_cluster: KindCluster) -> None:
    system = pykube.Pod.objects(kind_cluster.api).filter(namespace="kube-system")
    assert {"coredns", "etcd"} <= {pod.name.split("-")[0] for pod in system}


def test_the_status_is_well(labctl: Labctl, cluster: str) -> None:
    assert labctl("status", cluster).exit_code == 0


def test_up_again_does_nothing_and_is_quick(labctl: Labctl, docker: Docker, cluster: str) -> None:
    before = containers(docker, cluster)
    seconds = []
    # The limit is meant for a machine with a free core; the quickest of three counts.
    limit = NO_OP_SECONDS * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    for _ in range(3):
        watch = Stopwatch()
        labctl("up", CONFIG, "--name", cluster)
        seconds.append(watch.seconds)
    assert min(seconds) < limit
    assert containers(docker, cluster) == before


def test_up_with_another_spec_names_the_difference_and_changes_nothing(
    labctl: Labctl, docker: Docker, cluster: str
) -> None:
    before = containers(docker, cluster)
    refused = labctl.json("up", CONFIG, "--name", cluster, "--workers", "1", code=6)
    assert "workers: 1 asked for, 2 there" in refused["error"]["why"]
    assert containers(docker, cluster) == before


def test_the_api_server_listens_on_this_machine_only(docker: Docker, cluster: str) -> None:
    [plane] = docker.inspect(f"{cluster}-control-plane")
    assert {bound["HostIp"] for bound in plane["NetworkSettings"]["Ports"]["6443/tcp"]} == {"127.0.0.1"}


def test_the_kubeconfig_is_private(labctl: Labctl, cluster: str) -> None:
    path = Path(labctl("kubeconfig", cluster).stdout.strip())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_kubectl_hands_on_its_exit_code(labctl: Labctl, cluster: str) -> None:
    labctl("kubectl", "--name", cluster, "--", "get", "pod", "no-such-pod", code=1)


@pytest.fixture
def foreign(labctl: Labctl, docker: Docker, tmp_path: Path) -> Iterator[str]:
    """A cluster made by plain kind; only what this machine forces on the nodes is labctl's advice."""
    spec = ClusterSpec(name=FOREIGN, workers=0, cni="none", load_balancer="none")
    config = kindconfig.render(spec, demands.of_nodes(docker))
    kind = Kind()
    try:
        kind.create_cluster(
            name=FOREIGN,
            config=config,
            image=node_image(docker),
            kubeconfig=tmp_path / "kubeconfig",
            timeout=300,
        )
        yield FOREIGN
    finally:
        kind.delete_cluster(FOREIGN, tmp_path / "kubeconfig")


def test_a_cluster_of_plain_kind_is_never_touched(labctl: Labctl, docker: Docker, foreign: str) -> None:
    before = containers(docker, foreign)
    assert before
    labctl("up", "single", "--name", foreign, code=6)
    labctl("up", "single", "--name", foreign, "--replace", code=6)
    labctl("down", foreign, code=6)
    assert containers(docker, foreign) == before


def test_two_ups_of_one_name_at_once(labctl: Labctl, docker: Docker, cluster: str, tmp_path: Path) -> None:
    """Two of the same, started together: none of them changes the cluster, and none fails for long."""
    before = containers(docker, cluster)
    both = (
        f"{sys.executable} -m labctl up {CONFIG} --name {cluster} > {tmp_path}/first 2>&1 & first=$!;"
        f"{sys.executable} -m labctl up {CONFIG} --name {cluster} > {tmp_path}/second 2>&1; second=$?;"
        " wait $first; echo $? $second"
    )
    codes = process.run(["sh", "-c", both], timeout=60, cwd=tmp_path).stdout.split()
    assert "0" in codes
    assert set(codes) <= {"0", "6"}, (tmp_path / "first").read_text() + (tmp_path / "second").read_text()
    assert containers(docker, cluster) == before
