"""`labctl ci` from nothing to nothing: proven, failed, broken and interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from junitparser import JUnitXml

from labctl import process, waiting
from labctl.images import lockfile
from labctl.tools.docker import Docker

from .conftest import KIND_CLUSTER, Labctl, containers

NAME = "labctl-test-ci"
CONTAINER = "labctl-test-image"

FALSE_LAB = '''
"""A claim that is false: what a lab that fails looks like."""

from kubernetes.client import V1ConfigMap, V1ObjectMeta

from labctl.lab import Cluster, Lab, expect

lab = Lab()


@lab.step("Write a number down")
def write(k8s: Cluster) -> None:
    body = V1ConfigMap(metadata=V1ObjectMeta(name="number"), data={"number": "41"})
    k8s.core.create_namespaced_config_map(namespace=k8s.namespace, body=body)


@lab.check("The number is the answer", within=1)
def number_is_the_answer(k8s: Cluster) -> None:
    found = k8s.core.read_namespaced_config_map(name="number", namespace=k8s.namespace).data["number"]
    expect(found == "42", seen=found, expected="42")


@lab.sabotage("the number is gone", breaks=number_is_the_answer)
def remove(k8s: Cluster) -> None:
    k8s.core.delete_namespaced_config_map(name="number", namespace=k8s.namespace)
'''


@pytest.fixture(autouse=True)
def nothing_is_left(labctl: Labctl, docker: Docker) -> Iterator[None]:
    """Each run starts without its cluster and must leave none."""
    labctl("down", NAME)
    yield
    left = containers(docker, NAME)
    labctl("down", NAME)
    assert not left


def test_a_run_that_is_proven_leaves_nothing(labctl: Labctl, tmp_path: Path) -> None:
    report = labctl.json("ci", "single", "--name", NAME, "--labs", "10", "--junit", str(tmp_path / "r.xml"))
    assert [phase["outcome"] for phase in report["phases"]] == ["ok"] * 5
    assert JUnitXml.fromfile(str(tmp_path / "r.xml")).errors == 0


def test_a_failed_lab_is_1_with_a_bundle_and_reports(labctl: Labctl, tmp_path: Path) -> None:
    folder = tmp_path / "labs"
    folder.mkdir()
    (folder / "77_false.py").write_text(FALSE_LAB)
    wanted = ["--junit", str(tmp_path / "r.xml"), "--summary", str(tmp_path / "r.md")]
    labs = ["--labs-dir", str(folder), "--labs", "77", "--bundle", str(tmp_path / "bundles")]
    report = labctl.json("ci", "single", "--name", NAME, *labs, *wanted, code=1)
    [check] = report["run"]["labs"][0]["checks"]
    assert (check["status"], check["expected"], check["actual"]) == ("FAIL", "42", "41")
    document = JUnitXml.fromfile(str(tmp_path / "r.xml"))
    assert (document.failures, document.errors) == (1, 0)
    assert "The number is the answer" in (tmp_path / "r.md").read_text()
    bundle = Path(report["bundle"])
    assert bundle.is_relative_to(tmp_path)
    assert (bundle / "reason.txt").read_text().startswith("labs: ")
    assert "labctl-test-ci-control-plane" in (bundle / "nodes.txt").read_text()


def test_a_missing_cni_image_is_4_with_a_bundle(labctl: Labctl, docker: Docker, tmp_path: Path) -> None:
    """The node image without flannel's image: nodes can pull it nowhere, and the run says so."""
    image = without_flannel(docker)
    try:
        arguments = [
            "--name",
            NAME,
            "--image",
            image,
            "--labs",
            "none",
            "--bundle",
            str(tmp_path / "bundles"),
        ]
        report = labctl.json("ci", "single", *arguments, code=None, timeout=1200)
    finally:
        docker.remove_image(image)
    assert report["exit_code"] == 4
    failure = report["phases"][1]["failure"]
    said = failure["what"] + failure["why"]
    assert "flannel" in said
    assert "Pull" in said
    assert (Path(report["bundle"]) / "pods.txt").exists()
    assert report["kept"] is False


def without_flannel(docker: Docker) -> str:
    """A copy of the node image in which containerd does not know flannel's image; its reference."""
    locked = lockfile.load()
    node, copy = locked.built.image.reference, "labctl/node-without-flannel:test"
    if docker.image(node) is None:
        pytest.skip("a pulled node image brings no flannel that could be taken away")
    forget = (
        "containerd & until ctr version; do sleep 0.2; done >/dev/null 2>&1; "
        f"ctr --namespace k8s.io images rm {locked.image('flannel').reference}; kill $!; wait"
    )
    process.run(["docker", "rm", "--force", CONTAINER], timeout=60, check=False)
    process.run(["docker", "run", "--name", CONTAINER, "--entrypoint", "sh", node, "-c", forget], timeout=120)
    entrypoint = 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]'
    process.run(["docker", "commit", "--change", entrypoint, CONTAINER, copy], timeout=300)
    process.run(["docker", "rm", "--force", CONTAINER], timeout=60)
    return copy


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_nodes_are_made_leaves_nothing(
    labctl: Labctl, docker: Docker, tmp_path: Path, number: signal.Signals
) -> None:
    argv = [sys.executable, "-m", "labctl", "ci", "single", "--name", NAME, "--labs", "none", "-o", "json"]
    with (tmp_path / "out").open("w") as out:
        child = subprocess.Popen(argv, stdout=out, stderr=subprocess.DEVNULL, cwd=tmp_path)
        try:
            waiting.until(lambda: appeared(docker), what="a node's container", within=300)
            child.send_signal(number)
            assert child.wait(timeout=120) == 128 + number
        finally:
            if child.poll() is None:
                child.terminate()
                child.wait(timeout=120)
    assert json.loads((tmp_path / "out").read_text())["phases"][1]["failure"]["id"] == "interrupted"
    assert not containers(docker, NAME)


def appeared(docker: Docker) -> None:
    if not docker.containers({KIND_CLUSTER: NAME}):
        raise waiting.NotYet("none yet")
