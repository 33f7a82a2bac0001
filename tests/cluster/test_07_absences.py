"""A process is killed inside a counterfactual of each kind: `labctl heal`, or simply the next command, makes it good.

On a cluster of its own, with one worker: what is taken away here would take the other tests' cluster with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from labctl import waiting
from labctl.cluster import running
from labctl.cluster.absence import taking
from labctl.cluster.absence.gate import gate
from labctl.cluster.absence.onnodes import MANIFESTS
from labctl.cluster.absence.site import Site
from labctl.kube import connect
from labctl.tools.docker import Docker

from .conftest import UP_SECONDS, Labctl

NAME = "labctl-test-absence"
WORKER = f"{NAME}-worker"

DRIVER = """
import sys
from labctl.cluster import running
from labctl.cluster.absence import known, taking
from labctl.cluster.absence.onnodes import FrozenNode, StoppedNode
from labctl.cluster.absence.site import Site
from labctl.cluster.absence.workloads import WithoutRules
from labctl.kube import connect
from labctl.tools.docker import Docker
from labctl.waiting import pause

docker, (name, what, node) = Docker(), sys.argv[1:]
cluster = running.find(name, docker=docker)
own = {
    "frozen": FrozenNode(node, (node,)),
    "stopped": StoppedNode(node, (node,)),
    "rules": WithoutRules("kube-proxy", (node,), "kube-system"),
}
absence = own.get(what) or known.named(what, cluster, node)
with taking.taken_away(Site(cluster, docker, connect(cluster.kubeconfig)), absence):
    print("away", flush=True)
    pause(600)
"""

KINDS = [
    ("kube-scheduler", ""), ("kube-controller-manager", ""), ("kube-apiserver", ""), ("etcd", ""), ("CoreDNS", ""),
    ("kubelet", WORKER), ("containerd", WORKER), ("kube-proxy", ""), ("rules", WORKER), ("frozen", WORKER),
    ("stopped", WORKER),
]  # fmt: skip


@pytest.fixture(scope="module")
def absent(labctl: Labctl) -> Iterator[str]:
    """The cluster; LABCTL_TEST_KEEP=1 takes the one that is there and leaves it."""
    keep = bool(os.environ.get("LABCTL_TEST_KEEP"))
    if not keep:
        labctl("down", NAME)
    labctl("up", "single", "--name", NAME, "--workers", "1", timeout=UP_SECONDS, live=True)
    yield NAME
    if not keep:
        labctl("down", NAME, timeout=300)


@contextlib.contextmanager
def inside(what: str, node: str) -> Iterator[subprocess.Popen[str]]:
    """A process that is inside the block: it says so, and only then the test goes on."""
    argv = [sys.executable, "-c", DRIVER, NAME, what, node]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        try:
            assert child.stdout is not None
            said = child.stdout.readline()
            assert said == "away\n", said + child.stdout.read()
            yield child
        finally:
            child.kill()


def found(docker: Docker) -> dict[str, Any]:
    """What an absence may have changed: specs, manifests, units, the state of each container."""
    cluster = running.find(NAME, docker=docker)
    kube = connect(cluster.kubeconfig)
    with contextlib.closing(kube):
        site = Site(cluster, docker, kube)
        return {
            "differs": gate(site, within=120),
            "specs": {
                f"{one['metadata']['name']}": one["spec"]
                for kind in ("deployments", "daemonsets")
                for one in site.get(f"/apis/apps/v1/namespaces/kube-system/{kind}")["items"]
            },
            "manifests": site.run(
                site.planes[0], "sh", "-c", f"sha256sum {MANIFESTS}/*; ls /etc/kubernetes"
            ).stdout,
            "states": {node: site.state(node) for node in cluster.containers},
            "away": taking.outstanding(cluster, docker),
        }


HEAL, NEXT = ("heal", NAME), ("lab", "reset", "10", "--name", NAME)

EACH_TIME = [
    ("kube-scheduler", "", HEAL), ("kube-apiserver", "", NEXT), ("CoreDNS", "", NEXT), ("containerd", WORKER, HEAL),
    ("rules", WORKER, NEXT), ("frozen", WORKER, HEAL),
]  # fmt: skip
"""One of every way of taking away, and both ways of paying back: what a run of all tests has time for.

LABCTL_TEST_ALL=1 kills inside every kind and pays back in both ways, which takes twenty minutes.
"""

EVERY = [(what, node, then) for what, node in KINDS for then in (HEAL, NEXT)]


@pytest.mark.parametrize(
    ("what", "node", "then"),
    EVERY if os.environ.get("LABCTL_TEST_ALL") else EACH_TIME,
    ids=lambda one: one[0] if isinstance(one, tuple) else None,
)
def test_after_a_kill_the_next_command_makes_it_good(
    labctl: Labctl, docker: Docker, absent: str, what: str, node: str, then: tuple[str, ...]
) -> None:
    before = found(docker)
    assert before["differs"] == ()
    with inside(what, node) as child:
        child.kill()
        assert child.wait() == -signal.SIGKILL
    [left] = taking.outstanding(running.find(NAME, docker=docker), docker)
    assert left.stale
    labctl(*then)
    assert found(docker) == before


@pytest.mark.parametrize(("what", "node"), [("kube-scheduler", ""), ("frozen", WORKER)])
def test_an_interrupt_puts_it_back_and_leaves_no_marker(
    docker: Docker, absent: str, what: str, node: str
) -> None:
    before = found(docker)
    with inside(what, node) as child:
        child.send_signal(signal.SIGINT)
        child.wait(timeout=240)
        assert child.stdout is not None
        assert "KeyboardInterrupt" in child.stdout.read()
    assert found(docker) == before


def test_a_second_interrupt_leaves_the_marker_and_names_it(
    labctl: Labctl, docker: Docker, absent: str
) -> None:
    before = found(docker)
    with inside("kube-controller-manager", "") as child:
        child.send_signal(signal.SIGINT)
        waiting.until(lambda: manifest_is_back(docker), what="it is being put back", within=60, every=0.1)
        child.send_signal(signal.SIGINT)
        child.wait(timeout=60)
        assert child.stdout is not None
        said = child.stdout.read()
    [left] = taking.outstanding(running.find(NAME, docker=docker), docker)
    assert left.id in said
    assert f"labctl heal {NAME}" in said
    done = labctl.json("heal", NAME)
    assert done["changed"]
    assert found(docker) == before


def manifest_is_back(docker: Docker) -> None:
    path = f"{MANIFESTS}/kube-controller-manager.yaml"
    if not docker.exec(f"{NAME}-control-plane", ["test", "-e", path], check=False).ok:
        raise waiting.NotYet("its manifest is away")


def test_healing_what_is_well_changes_nothing_and_proves_it(
    labctl: Labctl, docker: Docker, absent: str
) -> None:
    before = found(docker)
    done = json.loads(labctl("heal", NAME, "-o", "json").stdout)
    assert not done["changed"]
    assert {one["status"] for one in done["proof"]} <= {"PASS", "SKIP"}
    assert "PASS" in {one["status"] for one in done["proof"]}
    assert found(docker) == before


def test_nodes_that_were_stopped_by_hand_are_woken(labctl: Labctl, docker: Docker, absent: str) -> None:
    for node in (WORKER, f"{NAME}-control-plane"):
        docker.stop(node)
    assert labctl.json("heal", NAME)["changed"]
    assert found(docker)["differs"] == ()
