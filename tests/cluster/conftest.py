"""Real clusters, through pytest-kind's `kind_cluster` fixture, made by labctl itself.

pytest-kind would download kind and kubectl and make a bare kind cluster. Here `labctl up` makes the
cluster first; then the plugin is told its name, its kubeconfig, labctl's kind and a kubectl that is the
control plane's own, so that it finds everything in place and fetches nothing.

The tests run in the order of their files' numbers and share one cluster; the last file deletes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from _pytest.capture import CaptureManager
from pytest_kind import KindCluster

from labctl import paths, process
from labctl.images import lockfile
from labctl.process import Completed
from labctl.tools import kind
from labctl.tools.docker import Docker

NAME = "labctl-test"
CONFIG = "three-nodes"

UP_SECONDS = 3600.0
"""A cold machine builds the node image first."""
COMMAND_SECONDS = 900.0
TEST_SECONDS = UP_SECONDS + 4 * COMMAND_SECONDS

KIND_CLUSTER = "io.x-k8s.kind.cluster"


class Labctl:
    """The command line as a user calls it, in a process of its own."""

    def __init__(self, directory: Path, capture: CaptureManager) -> None:
        self._directory = directory
        self._capture = capture

    def __call__(
        self, *arguments: str, code: int | None = 0, timeout: float = COMMAND_SECONDS, live: bool = False
    ) -> Completed:
        """Run labctl and require its exit ``code`` (None: any); ``live`` shows its narration at once."""
        shown = self._capture.global_and_fixture_disabled() if live else nullcontext()
        with shown:
            done = process.run(
                [sys.executable, "-m", "labctl", *arguments],
                timeout=timeout,
                check=False,
                cwd=self._directory,
                on_line=print if live else None,
            )
        if not live:
            print(f"$ labctl {shlex.join(arguments)}  -> {done.exit_code}\n{done.stdout}{done.stderr}")
        if code is not None:
            assert done.exit_code == code, f"labctl {shlex.join(arguments)}: {done.stdout}{done.stderr}"
        return done

    def json(self, *arguments: str, code: int | None = 0, timeout: float = COMMAND_SECONDS) -> Any:
        """The result of a command as data; if its exit code is another, what did not pass is told first.

        A report of a hundred checks and its narration fill the screen of CI, and the one line that counts is cut.
        """
        done = self(*arguments, "-o", "json", code=None, timeout=timeout)
        if code is not None and done.exit_code != code:
            bad = "\n".join(did_not_pass(done.stdout)) or done.stdout[-2000:]
            pytest.fail(
                f"labctl {shlex.join(arguments)}: exit {done.exit_code}, not {code}\n{bad}\n{done.stderr[-2000:]}",
                pytrace=False,
            )
        return json.loads(done.stdout)


def did_not_pass(document: str) -> list[str]:
    """A line for each lab and check that is neither PASS nor SKIP; none if ``document`` is no report of labs."""
    try:
        report = json.loads(document)
    except ValueError:
        return []
    if not isinstance(report, dict):
        return []
    labs = report.get("labs") or (report.get("run") or {}).get("labs") or []
    return [
        f"lab {lab['number']}: {one.get('title')}: {one['status']}: {one.get('actual') or one.get('reason')}"
        for lab in labs
        if "checks" in lab  # `lab list` calls its rows labs too
        for one in (lab, *lab["checks"])
        if one["status"] not in ("PASS", "SKIP")
    ]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give a test on a real cluster the time for one, its fixtures included."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_SECONDS))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give pytest-kind everything that it would otherwise download or make."""
    directory = Path(str(config.rootpath)) / ".pytest-kind"
    directory.mkdir(exist_ok=True)
    kubectl = directory / "kubectl"
    kubectl.write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m labctl -q kubectl --name {NAME} -- "$@"\n'
    )
    kubectl.chmod(0o755)
    config.option.cluster_name = NAME
    config.option.keep_cluster = True
    config.option.kubeconfig = str(paths.cluster_state(NAME) / "kubeconfig")
    config.option.kind_bin = kind.locate()
    config.option.kind_kubectl_bin = str(kubectl)


@pytest.fixture(scope="session")
def docker() -> Docker:
    return Docker()


@pytest.fixture(scope="session")
def labctl(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Labctl:
    capture = request.config.pluginmanager.getplugin("capturemanager")
    assert isinstance(capture, CaptureManager)
    return Labctl(tmp_path_factory.mktemp("anywhere"), capture)


@pytest.fixture(scope="session", autouse=True)
def user_s_kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's kubeconfig, in both places where it may be: at the end both are byte for byte as before."""
    named = tmp_path_factory.mktemp("user") / "config"
    named.write_text("apiVersion: v1\nkind: Config\ncurrent-context: production\n")
    usual = Path.home() / ".kube" / "config"
    before = {path: fingerprint(path) for path in (named, usual)}
    os.environ["KUBECONFIG"] = str(named)
    yield named
    assert {path: fingerprint(path) for path in (named, usual)} == before


@pytest.fixture(scope="session")
def cluster(labctl: Labctl) -> Iterator[str]:
    """The cluster of this session, made by `labctl up`; deleted at the end whatever happens.

    LABCTL_TEST_KEEP=1 takes the one that an earlier session left, and leaves it: for work on the tests.
    """
    keep = bool(os.environ.get("LABCTL_TEST_KEEP"))
    if not keep:
        labctl("down", NAME)
    labctl("up", CONFIG, "--name", NAME, timeout=UP_SECONDS, live=True)
    yield NAME
    if not keep:
        labctl("down", NAME, timeout=300)


@pytest.fixture(scope="session")
def kind_cluster(cluster: str, kind_cluster: KindCluster) -> KindCluster:
    """pytest-kind's own fixture, which finds our cluster made."""
    return kind_cluster


def node_image(docker: Docker) -> str:
    """The node image that `up` uses here: the built one where it is present, else the one to pull."""
    node = lockfile.load()
    built = node.built.image.reference
    return built if docker.image(built) else node.pulled.image.pull_reference


def fingerprint(path: Path) -> str:
    """What a file holds, as a hash; 'absent' when there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "absent"


def containers(docker: Docker, name: str) -> dict[str, tuple[str, str]]:
    """The containers of a kind cluster: name -> (id, when it was started)."""
    found = [one.id for one in docker.containers({KIND_CLUSTER: name})]
    return {
        str(one["Name"]).lstrip("/"): (str(one["Id"]), str(one["State"]["StartedAt"]))
        for one in (docker.inspect(*found) if found else ())
    }


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started
