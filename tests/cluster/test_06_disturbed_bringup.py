"""What happens to a cluster when its bring-up is disturbed: by rivals, signals, strangers, missing parts.

Rows of the fault matrix: F7, F9, F10, F11, F13, F16, F20, F27. Own names, own state directory, one small
cluster at a time; the node image must be present. The tests from `running` on share one cluster and go
from harmless to fatal.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from labctl.tools.docker import Docker

from .conftest import KIND_CLUSTER, node_image

NAME = "labctl-test-fault"
SMALL = ("up", "single", "--name", NAME, "--source", "present", "--skip-check", "memory")
CREATE_SECONDS = 400.0
QUICK_SECONDS = 60.0


class Bench:
    """labctl with a state directory of its own, and docker's view of the cluster under test."""

    def __init__(self, state: Path, docker: Docker) -> None:
        self.docker = docker
        self.state = state / "labctl"
        self.env = {**os.environ, "XDG_STATE_HOME": str(state)}
        self._children: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, stderr: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
        """Start labctl and leave it running."""
        child = subprocess.Popen(
            [sys.executable, "-m", "labctl", *arguments],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
        self._children.append(child)
        return child

    def end(self) -> None:
        """Leave no labctl behind that holds the cluster's lock, whatever a test has come to."""
        for child in self._children:
            if child.poll() is None:
                child.terminate()
                child.communicate(timeout=120)
        self._children.clear()

    def run(self, *arguments: str, code: int | None = 0, timeout: float = QUICK_SECONDS) -> tuple[int, str]:
        """Run labctl to its end; its exit code and all that it said."""
        child = self.start(*arguments)
        out, err = child.communicate(timeout=timeout)
        print(f"$ labctl {' '.join(arguments)} -> {child.returncode}\n{out}{err}")
        if code is not None:
            assert child.returncode == code, out + err
        return child.returncode, out + err

    def containers(self) -> dict[str, str]:
        """Names and ids of the cluster's containers, in any state."""
        return {one.name: one.id for one in self.docker.containers({KIND_CLUSTER: NAME})}

    def phase(self) -> str:
        """The phase in the journal, '' without one."""
        try:
            return str(json.loads((self.state / NAME / "journal.json").read_text())["phase"])
        except (OSError, ValueError, KeyError):
            return ""


def wait(condition: Callable[[], object], what: str, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, docker: Docker) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("state"), docker)
    yield bench
    bench.end()
    bench.run("down", NAME, "--force", code=None, timeout=120)


@pytest.fixture
def empty(bench: Bench) -> Bench:
    """Nothing of the cluster there."""
    bench.end()
    bench.run("down", NAME, "--force", code=None, timeout=120)
    assert not bench.containers()
    return bench


@pytest.fixture(scope="module")
def running(bench: Bench) -> Bench:
    """One small cluster, proven."""
    bench.end()
    bench.run("down", NAME, "--force", code=None, timeout=120)
    bench.run(*SMALL, timeout=CREATE_SECONDS)
    return bench


@pytest.fixture
def stranger(empty: Bench) -> Iterator[Bench]:
    """Containers with kind's labels that labctl did not make."""
    labels = [f"--label={KIND_CLUSTER}={NAME}", "--label=io.x-k8s.kind.role=control-plane"]
    options = [
        "--detach",
        f"--name={NAME}-control-plane",
        "--entrypoint=sleep",
        *labels,
        "--label=dev.labctl.owner=",
    ]
    empty.docker.run(node_image(empty.docker), ["600"], options=options)
    yield empty
    empty.docker.remove(f"{NAME}-control-plane")


def test_a_cluster_of_plain_kind_is_left_alone_without_force(stranger: Bench) -> None:
    """F13."""
    before = stranger.containers()
    assert before
    _, said = stranger.run(*SMALL, code=6)
    assert "was not made by labctl" in said
    stranger.run(*SMALL, "--replace", code=6)
    stranger.run("down", NAME, code=6)
    assert stranger.containers() == before
    _, said = stranger.run("ls")
    assert "foreign" in next(line for line in said.splitlines() if line.startswith(NAME))
    stranger.run("down", NAME, "--force")
    assert not stranger.containers()


def test_of_two_at_once_one_wins_and_an_interrupt_leaves_nothing(empty: Bench) -> None:
    """F11 and F9."""
    first, second = empty.start(*SMALL), empty.start(*SMALL)
    wait(lambda: first.poll() is not None or second.poll() is not None, "one of two gives way", 30)
    loser, winner = (first, second) if first.poll() is not None else (second, first)
    said = "".join(loser.communicate())
    assert loser.returncode == 6, said
    assert f"process {winner.pid}" in said
    assert "labctl up" in said

    wait(lambda: empty.phase() == "nodes" and empty.containers(), "the first container")
    started = time.monotonic()
    winner.send_signal(signal.SIGINT)
    said = "".join(winner.communicate(timeout=60))
    assert winner.returncode == 130, said
    assert "interrupted in phase nodes" in said
    assert time.monotonic() - started < 30
    assert not empty.containers()
    assert empty.phase() == ""
    assert empty.docker.image(f"labctl/cluster:{NAME}") is None


def test_a_second_interrupt_quits_and_names_the_command_that_deletes(empty: Bench, tmp_path: Path) -> None:
    """F9."""
    narration = tmp_path / "stderr"
    with narration.open("w") as stderr:
        child = empty.start(*SMALL, stderr=stderr)
    wait(lambda: empty.phase() == "nodes" and empty.containers(), "the first container")
    child.send_signal(signal.SIGINT)
    wait(lambda: "a second interrupt quits" in narration.read_text(), "the clean-up begins", 30)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=30)
    assert child.returncode == 130, narration.read_text()
    assert f"labctl down {NAME}" in narration.read_text()
    empty.run("down", NAME)
    assert not empty.containers()


@pytest.mark.parametrize("phase", ["nodes", "readiness"])
def test_a_killed_bring_up_is_seen_refused_and_deleted(empty: Bench, phase: str) -> None:
    """F10."""
    child = empty.start(*SMALL)
    wait(lambda: empty.containers() and empty.phase() == phase, f"phase {phase}", CREATE_SECONDS)
    child.kill()
    child.communicate()
    _, said = empty.run("status", NAME, code=7)
    assert "interrupted" in said
    assert phase in said
    _, said = empty.run(*SMALL, code=6)
    assert phase in said
    assert "--replace" in said
    empty.run("down", NAME, timeout=90)
    assert not empty.containers()
    assert not (empty.state / NAME).exists()
    assert empty.docker.image(f"labctl/cluster:{NAME}") is None


def test_an_api_server_that_cannot_start_leaves_a_bundle_and_nothing_else(
    empty: Bench, tmp_path: Path
) -> None:
    """F7."""
    config = tmp_path / "broken.yaml"
    config.write_text(
        f"""apiVersion: labctl.dev/v1
kind: Cluster
name: {NAME}
nodes: {{controlPlanes: 1, workers: 0}}
kindConfig:
  kubeadmConfigPatches:
    - |
      kind: ClusterConfiguration
      apiServer:
        extraArgs:
          - name: no-such-flag
            value: "1"
    - |
      kind: InitConfiguration
      timeouts:
        controlPlaneComponentHealthCheck: 20s
"""
    )
    up = ("up", str(config), "--source", "present", "--skip-check", "memory")
    _, said = empty.run(*up, code=2)
    assert "--allow-raw-kind" in said
    _, said = empty.run(*up, "--allow-raw-kind", code=4, timeout=CREATE_SECONDS)
    assert "unknown flag" in said, "the API server's last lines are shown"
    assert not empty.containers()
    [bundle] = (empty.state / ".bundles").glob(f"{NAME}-*")
    assert str(bundle) in said
    empty.run("down", NAME)
    assert (bundle / "reason.txt").read_text()
    assert "PRIVATE KEY" not in "".join(
        path.read_text("utf-8", "replace") for path in bundle.rglob("*") if path.is_file()
    )


def test_state_may_be_deleted_and_is_made_anew(running: Bench) -> None:
    shutil.rmtree(running.state)
    _, path = running.run("-q", "kubeconfig", NAME)
    assert Path(path.strip()).stat().st_mode & 0o777 == 0o600
    _, said = running.run(*SMALL, timeout=200)
    assert "Proof" in said
    running.run("status", NAME)


def test_a_cni_image_that_does_not_exist_is_named_before_the_deadline(running: Bench) -> None:
    """F27."""
    flannel = ("kubectl", "--name", NAME, "--", "-n", "kube-flannel")
    running.run(*flannel, "set", "image", "ds/kube-flannel-ds", "kube-flannel=registry.invalid/no/flannel:v0")
    # `up` gives a cluster that runs half a minute; the kubelet may need longer to try the new image at all.
    wait(lambda: "ImagePull" in running.run(*flannel, "get", "pods")[1], "the kubelet tries the image")
    _, said = running.run(*SMALL, code=4, timeout=120)
    assert "0/1 ready" in said
    assert "ImagePullBackOff" in said or "ErrImagePull" in said
    running.run(*flannel, "delete", "ds", "kube-flannel-ds")
    _, said = running.run(*SMALL, code=4, timeout=120)
    assert "does not exist" in said


def test_a_stopped_node_is_named_by_docker_first(running: Bench) -> None:
    """F20, as far as `up` and `status` go."""
    running.docker.stop(f"{NAME}-control-plane")
    started = time.monotonic()
    _, said = running.run(*SMALL, code=4)
    assert f"container {NAME}-control-plane exited" in said
    assert time.monotonic() - started < 20
    code, said = running.run("status", NAME, code=None)
    assert code in (4, 7)
    assert "exited" in said


def test_a_cluster_whose_containers_are_gone_is_named_and_deleted(running: Bench) -> None:
    """F16; the last one, for it removes the cluster."""
    running.docker.remove(f"{NAME}-control-plane")
    code, said = running.run("status", NAME, code=None)
    assert code == 7
    assert f"{NAME}-control-plane" in said
    running.run("down", NAME)
    running.run("down", NAME)
    assert not (running.state / NAME).exists()
