"""The cluster broken by hand: the labs concerned must say so, and never PASS."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pytest_kind import KindCluster

from labctl import process, waiting
from labctl.tools.docker import Docker

from .conftest import COMMAND_SECONDS, KIND_CLUSTER, Labctl


def statuses(labctl: Labctl, cluster: str, verb: str, *labs: str) -> dict[int, str]:
    result = labctl.json("lab", verb, *labs, "--name", cluster, code=None, timeout=2 * COMMAND_SECONDS)
    return {lab["number"]: lab["status"] for lab in result["labs"]}


def get(kind_cluster: KindCluster, *what: str) -> Any:
    return json.loads(kind_cluster.kubectl("get", *what, "--output=json"))


@contextmanager
def scaled_to_nothing(kind_cluster: KindCluster, namespace: str, deployment: str) -> Iterator[None]:
    replicas = get(kind_cluster, f"--namespace={namespace}", "deployment", deployment)["spec"]["replicas"]
    scale = ("scale", f"--namespace={namespace}", f"deployment/{deployment}")
    wait = (f"--namespace={namespace}", f"deployment/{deployment}", "--timeout=120s")
    kind_cluster.kubectl(*scale, "--replicas=0")
    try:
        waiting.until(
            lambda: gone(kind_cluster, namespace, deployment), what=f"no pod of {deployment}", within=120
        )
        yield
    finally:
        kind_cluster.kubectl(*scale, f"--replicas={replicas}")
        kind_cluster.kubectl("rollout", "status", *wait)


def gone(kind_cluster: KindCluster, namespace: str, deployment: str) -> None:
    """Ended, not only told to: until then it still answers."""
    left = get(kind_cluster, f"--namespace={namespace}", "pods")["items"]
    if names := [
        one["metadata"]["name"] for one in left if one["metadata"]["name"].startswith(f"{deployment}-")
    ]:
        raise waiting.NotYet(", ".join(names))


def test_without_kube_proxy(labctl: Labctl, cluster: str, kind_cluster: KindCluster) -> None:
    proxy = get(kind_cluster, "--namespace=kube-system", "daemonset", "kube-proxy")
    kind_cluster.kubectl(
        "delete",
        "--namespace=kube-system",
        "daemonset",
        "kube-proxy",
        "--cascade=foreground",
        "--timeout=120s",
    )
    try:
        seen = statuses(labctl, cluster, "run", "12", "13", "14", "--fail-fast")
    finally:
        for key in ("resourceVersion", "uid", "creationTimestamp", "generation"):
            proxy["metadata"].pop(key, None)
        proxy.pop("status", None)
        apply(cluster, json.dumps(proxy))
        rollout = ("rollout", "status", "--namespace=kube-system", "daemonset/kube-proxy", "--timeout=120s")
        kind_cluster.kubectl(*rollout)
    assert set(seen) == {12, 13, 14}
    assert "PASS" not in seen.values(), seen


def test_without_dns(labctl: Labctl, cluster: str, kind_cluster: KindCluster) -> None:
    with scaled_to_nothing(kind_cluster, "kube-system", "coredns"):
        seen = statuses(labctl, cluster, "run", "10", "15", "--fail-fast")
    assert set(seen) == {10, 15}
    assert "PASS" not in seen.values(), seen


def test_a_made_up_load_balancer_status(labctl: Labctl, cluster: str, kind_cluster: KindCluster) -> None:
    labctl("lab", "run", "14", "--name", cluster)
    with scaled_to_nothing(kind_cluster, "metallb-system", "controller"):
        invented = json.dumps({"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}}})
        services = get(kind_cluster, "--namespace=lab14", "services")["items"]
        for service in services:
            if service["spec"]["type"] == "LoadBalancer":
                target = ("--namespace=lab14", "service", service["metadata"]["name"], "--subresource=status")
                kind_cluster.kubectl("patch", *target, "--type=merge", f"--patch={invented}")
        seen = statuses(labctl, cluster, "verify", "14")
    assert seen[14] in ("FAIL", "ERROR"), seen


def test_an_interrupt_while_a_node_is_frozen_lets_it_go_on(
    docker: Docker, cluster: str, kind_cluster: KindCluster, tmp_path: Path
) -> None:
    """F29: what an experiment took away is put back, and what is left of the lab is deleted or named."""
    said = tmp_path / "said"
    argv = [sys.executable, "-m", "labctl", "lab", "run", "14", "--name", cluster]
    with said.open("w") as out:
        child = subprocess.Popen(argv, stdout=out, stderr=out, cwd=tmp_path)
    try:
        waiting.until(lambda: frozen(docker, cluster), what="a frozen node", within=180)
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=60) == 130, said.read_text()
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait(timeout=60)
    assert {one.state for one in docker.containers({KIND_CLUSTER: cluster})} == {"running"}
    there = [one["metadata"]["name"] for one in get(kind_cluster, "namespaces")["items"]]
    [error] = [line for line in said.read_text().splitlines() if line.startswith("error: ")]
    assert "interrupted; 0 of 1 lab(s) had ended; lab 14-loadbalancer: " in error
    assert "lab14" not in there or "namespace/lab14" in error or "namespace lab14" in error


@pytest.mark.parametrize("lab", ["12", "15"])
def test_the_cluster_is_whole_again(labctl: Labctl, cluster: str, lab: str) -> None:
    labctl("lab", "run", lab, "--name", cluster)


def frozen(docker: Docker, cluster: str) -> None:
    if "paused" not in {one.state for one in docker.containers({KIND_CLUSTER: cluster})}:
        raise waiting.NotYet("every node runs")


def apply(cluster: str, document: str) -> None:
    """Through the control plane's kubectl; pytest-kind's own wrapper has no standard input."""
    argv = ["docker", "exec", "-i", f"{cluster}-control-plane", "kubectl"]
    process.run(
        [*argv, "--kubeconfig=/etc/kubernetes/admin.conf", "apply", "--filename=-"],
        stdin=document,
        timeout=60,
    )
