"""Looking at a node from the inside, through its container: programs, a pod's network, mounts.

It knows docker's verbs for one container, and nothing of clusters, labs or what ought to be seen.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from labctl.errors import CommandFailed, CommandTimedOut, NodeDown, ProbeDidNotRun
from labctl.process import Completed
from labctl.tools.docker import Docker


class NodeProbe:
    """One node, entered through its container."""

    def __init__(self, docker: Docker, container: str) -> None:
        self.container = container
        self._docker = docker

    def __str__(self) -> str:
        return f"node {self.container}"

    def run(self, argv: Sequence[str], *, timeout: float = 60.0, stdin: str | None = None) -> Completed:
        """Run a program on the node; any exit code is an answer."""
        try:
            return self._docker.exec(self.container, argv, timeout=timeout, check=False, stdin=stdin)
        except (NodeDown, CommandTimedOut) as broken:
            raise ProbeDidNotRun(
                f"the probe on {self} did not run ({argv[0]})", why=broken.why or broken.what
            ) from broken

    def output(self, argv: Sequence[str], *, timeout: float = 60.0, stdin: str | None = None) -> str:
        """What a program on the node printed; raises `CommandFailed` on a non-zero exit code."""
        done = self.run(argv, timeout=timeout, stdin=stdin)
        if not done.ok:
            raise CommandFailed(done.argv, done.exit_code, done.stdout, done.stderr)
        return done.stdout

    def in_pod_network(self, pod_uid: str, argv: Sequence[str]) -> str:
        """Run a program of the node inside the network namespace of a pod that runs there."""
        sandbox = self.output(
            ["crictl", "pods", "--quiet", "--state", "ready", "--label", f"io.kubernetes.pod.uid={pod_uid}"]
        )
        if not sandbox.strip():
            raise ProbeDidNotRun(
                f"no sandbox of pod {pod_uid} on {self}", why="crictl knows none that is ready"
            )
        described = json.loads(self.output(["crictl", "inspectp", sandbox.split()[0]]))
        return self.output(["nsenter", f"--target={described['info']['pid']}", "--net", *argv])

    def mounts(self) -> dict[str, str]:
        """What the node may write to that lies outside it: each path and the directory of the machine behind it."""
        mounts: list[dict[str, Any]] = self._docker.inspect(self.container)[0]["Mounts"]
        return {str(one["Destination"]): str(one["Source"]) for one in mounts if one.get("RW")}

    def mac(self) -> str:
        """The hardware address of the node's interface on the cluster's docker network."""
        networks: dict[str, Any] = self._docker.inspect(self.container)[0]["NetworkSettings"]["Networks"]
        return next((str(one["MacAddress"]) for one in networks.values() if one.get("MacAddress")), "")
