"""Asking a pod while no API server answers: from its node, through docker.

`BesideApi` answers `pod_get` as `labctl.kube.Kube` does, so a probe of a pod can be given either. It says
who answers and what; what that means for a lab is not known here.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from labctl.cluster.absence.onnodes import PORTS
from labctl.cluster.running import RunningCluster
from labctl.errors import ApiRefused, CommandTimedOut, NodeDown, ProbeDidNotRun
from labctl.tools.docker import Docker

SILENT = {7: "connection refused", 28: "no answer in time", 35: "the connection was cut", 52: "an empty answer",
          56: "the connection was cut"}  # fmt: skip
"""curl's exit codes that mean that nobody answered."""


@dataclass(frozen=True)
class Called:
    """What came of one HTTP request: ``status`` and ``body`` of an answer, or ``silence``: why there was none."""

    url: str
    status: int = 0
    body: str = ""
    silence: str = ""

    @property
    def answered(self) -> bool:
        """Whether anybody answered."""
        return not self.silence

    def __str__(self) -> str:
        return f"{self.url}: {self.silence or f'answered {self.status}'}"


def call(docker: Docker, node: str, url: str, *, seconds: float = 3.0) -> Called:
    """One HTTP(S) request from a node, whose certificate is not looked at. Raises `ProbeDidNotRun`."""
    argv = ["curl", "-sk", "--noproxy", "*", "--max-time", f"{seconds:g}", "-w", "\n%{http_code}", url]
    try:
        done = docker.exec(node, argv, timeout=seconds + 20, check=False)
    except (NodeDown, CommandTimedOut) as broken:
        raise ProbeDidNotRun(
            f"the call from node {node} did not run", why=broken.why or broken.what
        ) from broken
    if done.exit_code in SILENT:
        return Called(url, silence=SILENT[done.exit_code])
    body, _, status = done.stdout.rpartition("\n")
    if not done.ok or not status.isdecimal():
        why = f"curl's exit code {done.exit_code}: {done.stderr.strip() or done.stdout.strip()}"
        raise ProbeDidNotRun(f"the call from node {node} did not run", why=why)
    return Called(url, int(status), body)


def api_calls(docker: Docker, cluster: RunningCluster) -> tuple[Called, ...]:
    """What every control plane's API server says to a call from its own node."""
    url = f"https://127.0.0.1:{PORTS['kube-apiserver']}/livez"
    return tuple(call(docker, one.container, url) for one in cluster.control_planes if one.container)


class BesideApi:
    """The pods of a cluster, found through each node's container runtime and called from their node."""

    def __init__(self, docker: Docker, cluster: RunningCluster) -> None:
        self._docker = docker
        self._cluster = cluster

    def pod_get(
        self,
        namespace: str,
        pod: str,
        *,
        port: int,
        path: str,
        query: Mapping[str, str | int] | None = None,
        timeout: float = 10.0,
    ) -> str:
        """The body of ``GET path`` on a pod's port. Raises `ApiRefused` as `Kube.pod_get` does: 404 for a pod that no
        node runs, 503 for one that does not answer, else the status that the pod answered."""
        node, address = self._find(namespace, pod)
        asked = f"{path.lstrip('/')}?{urlencode(query)}" if query else path.lstrip("/")
        said = call(self._docker, node, f"http://{address}:{port}/{asked}", seconds=timeout)
        what = f"GET {path} on pod {namespace}/{pod}, from its node"
        if not said.answered:
            raise ApiRefused(what, status=503, reason="Service Unavailable", why=said.silence)
        if not 200 <= said.status <= 299:
            raise ApiRefused(
                what, status=said.status, reason="", why=f"{said.status}: {said.body.strip()[:500]}"
            )
        return said.body

    def address(self, namespace: str, pod: str) -> str:
        """The pod's IP address, as its node's container runtime knows it."""
        return self._find(namespace, pod)[1]

    def _find(self, namespace: str, pod: str) -> tuple[str, str]:
        labels = {"io.kubernetes.pod.namespace": namespace, "io.kubernetes.pod.name": pod}
        wanted = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
        for node in filter(None, (one.container for one in self._cluster.nodes if one.runs)):
            argv = ["crictl", "pods", "--quiet", "--state", "ready", *wanted]
            with contextlib.suppress(NodeDown):  # a node that was taken away runs no pod that could be asked
                done = self._docker.exec(node, argv, check=False)
                if done.ok and done.stdout.strip():
                    said = self._docker.exec(node, ["crictl", "inspectp", done.stdout.split()[0]]).stdout
                    return node, str(json.loads(said)["status"]["network"]["ip"])
        raise ApiRefused(
            f"pod {namespace}/{pod} is not there", status=404, reason="NotFound", why="no node runs it"
        )
