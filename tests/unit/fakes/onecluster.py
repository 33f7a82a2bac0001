"""A cluster called ``one`` whose nodes and API server take part in each other's life, in a directory of a test.

Scripts that are sent to a node really run, on files below ``root``; a static pod runs while its manifest lies
where the kubelet looks, a Lease is renewed while its holder is there, controllers act when a spec is patched.
"""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from labctl.cluster.absence.onnodes import MANIFESTS, PORTS
from labctl.cluster.absence.site import Site
from labctl.cluster.mark import KIND_CLUSTER, KIND_ROLE
from labctl.cluster.running import RunningCluster
from labctl.errors import ApiRefused, ApiUnreachable, CommandFailed, NodeDown
from labctl.kube import translated
from labctl.process import Completed
from labctl.tools.docker import Container, Docker
from tests.unit.fakes.apiserver import running

PLANE = "one-control-plane"
RULES = """*nat
:PREROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-ABC - [0:0]
:KUBE-POSTROUTING - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A KUBE-SERVICES -d 10.96.0.1/32 -j KUBE-SVC-ABC
-A KUBE-POSTROUTING -j MASQUERADE
COMMIT
"""


class OneCluster(Docker):
    """Docker, the nodes and the API server in one; ``kube`` is the connection, ``site`` is where to act."""

    def __init__(self, root: Path, *, workers: int = 1) -> None:
        super().__init__("no-docker-here")
        self.root = root
        self.cluster: RunningCluster = running(workers=workers)
        self.states = dict.fromkeys(self.cluster.containers, "running")
        self.units = {(node, unit): "active" for node in self.states for unit in ("kubelet", "containerd")}
        self.rules = dict.fromkeys(self.states, RULES)
        self.id = "plane-1"
        self.done: list[str] = []
        """What changed something, in order."""
        self.lag = 1
        """How many looks later than ordered a container has ended or started."""
        self._seen: dict[str, tuple[bool, int]] = {}
        for name in PORTS:
            manifest = self.path(PLANE, f"{MANIFESTS}/{name}.yaml")
            manifest.parent.mkdir(parents=True, exist_ok=True)
            manifest.write_text(f"name: {name}\n")
        self.kube = OneKube(self)

    @property
    def site(self) -> Site:
        return Site(self.cluster, self, self.kube)  # type: ignore[arg-type]  # the part of Kube that is used

    def path(self, node: str, path: str) -> Path:
        """A file of a node."""
        return self.root / node / path.lstrip("/")

    def runs(self, name: str) -> bool:
        """Whether a static pod's container runs, some looks after its manifest came or went."""
        wanted = self.path(PLANE, f"{MANIFESTS}/{name}.yaml").exists()
        state, left = self._seen.get(name, (wanted, 0))
        if state != wanted:
            state, left = (wanted, 0) if left >= self.lag else (state, left + 1)
        self._seen[name] = (state, left)
        return state and self.states[PLANE] == "running"

    # --- docker's verbs

    def containers(self, labels: Mapping[str, str] | Sequence[str] = ()) -> list[Container]:
        return [
            Container(name, name, state, "image", {KIND_CLUSTER: "one", KIND_ROLE: role(name)})
            for name, state in self.states.items()
        ]

    def inspect(self, *names: str) -> list[dict[str, Any]]:
        return [{"Id": self.id, "Name": f"/{name}", "State": {"Status": self.states[name]}} for name in names]

    def pause(self, container: str) -> None:
        self._become(container, "paused")

    def unpause(self, container: str) -> None:
        self._become(container, "running")

    def stop(self, container: str) -> None:
        self._become(container, "exited")

    def start(self, container: str) -> None:
        self._become(container, "running")

    def exec(self, container: str, argv: Sequence[str], **options: Any) -> Completed:
        if self.states[container] != "running":
            raise NodeDown(
                "a container is not running", why=f"container {container} is {self.states[container]}"
            )
        code, said = self._answer(container, list(argv), str(options.get("stdin") or ""))
        if code and options.get("check", True):
            raise CommandFailed(argv, code, said, said)
        return Completed(tuple(argv), code, said, "", 0.0)

    def _become(self, container: str, state: str) -> None:
        self.states[container] = state
        self.done.append(f"{container} {state}")

    def _answer(self, node: str, argv: list[str], stdin: str) -> tuple[int, str]:
        match argv:
            case ["sh", "-c", _, "sh", *_]:
                return self._really(node, argv, stdin)
            case ["test", "-e", path]:
                return (0, "") if self.path(node, path).exists() else (1, "")
            case ["ls", path]:
                return 0, "\n".join(one.name for one in self.path(node, path).iterdir())
            case ["crictl", "ps", "--quiet", "--name", name]:
                return 0, "c0ntainer\n" if self.runs(name.strip("^$")) else ""
            case ["crictl", "info"]:
                return (0, "{}") if self.units[node, "containerd"] == "active" else (1, "no runtime")
            case ["curl", *_]:
                port = int(re.findall(r":(\d+)/", argv[-1])[0])
                return (
                    (0, "ok\n200") if self.runs({at: name for name, at in PORTS.items()}[port]) else (7, "")
                )
            case ["systemctl", "is-active", unit]:
                return 0, self.units[node, unit]
            case ["systemctl", verb, unit]:
                self.units[node, unit] = "active" if verb == "start" else "inactive"
                self.done.append(f"{node} {verb} {unit}")
                return 0, ""
            case ["iptables-save", *_]:
                return 0, self.rules[node]
            case ["iptables-restore", "--noflush"]:
                for chain in re.findall(r"^:(\S+)", stdin, re.MULTILINE):
                    self.rules[node] = re.sub(rf"^-A {chain} .*\n", "", self.rules[node], flags=re.MULTILINE)
                return 0, ""
        return 1, f"unknown: {argv}"

    def _really(self, node: str, argv: list[str], stdin: str) -> tuple[int, str]:
        here = [str(self.path(node, word)) if word.startswith("/") else word for word in argv]
        env = {"PATH": f"/usr/bin:/bin:{os.environ['PATH']}"}
        ended = subprocess.run(
            here, timeout=20, check=False, input=stdin, env=env, capture_output=True, text=True
        )
        if len(argv) > len(("sh", "-c", "script", "sh", "directory")):  # the script that reads names no file
            self.done.append(f"{node} {argv[-1]}")
        return ended.returncode, ended.stdout


class OneKube:
    """The API server of `OneCluster`. ``objects`` are plain data by their paths."""

    def __init__(self, one: OneCluster) -> None:
        self._one = one
        self._beats = 0
        self.objects: dict[str, dict[str, Any]] = {}
        self.patched: list[tuple[str, Any]] = []
        self.apps = self
        self.closed = False
        self._workload("deployments", "coredns", {"replicas": 2})
        proxy = {"template": {"spec": {"nodeSelector": {"kubernetes.io/os": "linux"}}}}
        self._workload("daemonsets", "kube-proxy", {**proxy, "updateStrategy": {"type": "RollingUpdate"}})

    def translated(self, doing: str = "") -> AbstractContextManager[None]:
        return translated(doing)

    def close(self) -> None:
        self.closed = True

    def version(self) -> str:
        self.raw_get("/version")
        return "v1.37.2"

    def raw_get(self, path: str, **_: Any) -> str:
        if not (self._one.runs("kube-apiserver") and self._one.runs("etcd")):
            raise ApiUnreachable(f"GET {path}", why="connection refused")
        return "ok" if path in {"/readyz", "/version"} else json.dumps(self._answer(path))

    def patch_namespaced_deployment(self, *, name: str, namespace: str, body: Any) -> None:
        self._patch("deployments", name, body)

    def patch_namespaced_daemon_set(self, *, name: str, namespace: str, body: Any) -> None:
        self._patch("daemonsets", name, body)

    def spec(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.objects[f"/apis/apps/v1/namespaces/kube-system/{kind}/{name}"]["spec"]
        return found

    def _patch(self, kind: str, name: str, body: Any) -> None:
        self.raw_get("/readyz")
        self.patched.append((name, body))
        for change in body:
            *way, last = change["path"].strip("/").split("/")
            at = self.objects[f"/apis/apps/v1/namespaces/kube-system/{kind}/{name}"]
            for step in way:
                at = at[step]
            if change["op"] == "replace":
                assert last in at
            at[last] = copy.deepcopy(change["value"])
        self._controllers()

    def _workload(self, kind: str, name: str, spec: dict[str, Any]) -> None:
        spec = {"selector": {"matchLabels": {"k8s-app": name}}, **spec}
        meta = {"name": name, "namespace": "kube-system", "generation": 1}
        path = f"/apis/apps/v1/namespaces/kube-system/{kind}/{name}"
        self.objects[path] = {"metadata": meta, "spec": spec, "status": {}}
        self._controllers()

    def _controllers(self) -> None:
        for path, one in self.objects.items():
            if "/daemonsets/" in path:
                count = len(self._allowed(one))
                keys = ("desiredNumberScheduled", "updatedNumberScheduled", "numberReady")
                if one["metadata"]["name"] == "kube-proxy":
                    for node in self._allowed(one):
                        self._one.rules[node] = RULES
            else:
                count, keys = one["spec"]["replicas"], ("replicas", "readyReplicas", "updatedReplicas")
            one["status"] = {"observedGeneration": 1, **dict.fromkeys(keys, count)}

    def _allowed(self, daemon_set: dict[str, Any]) -> list[str]:
        affinity = daemon_set["spec"]["template"]["spec"].get("affinity") or {}
        text = json.dumps(affinity)
        return [node for node in self._one.states if f'"{node}"' not in text]

    def _answer(self, path: str) -> Any:
        if path.endswith("/pods"):
            return {"items": [*self._static_pods(), *self._pods()]}
        if "/leases" in path:
            return self._leases(path)
        if path.startswith("/api/v1/nodes"):
            nodes = {name: self._node(name) for name in self._one.states}
            return (
                {"items": list(nodes.values())} if path.endswith("nodes") else nodes[path.rpartition("/")[2]]
            )
        if path in {"/apis/apps/v1/deployments", "/apis/apps/v1/daemonsets"}:
            return {
                "items": [one for at, one in self.objects.items() if f"/{path.rpartition('/')[2]}/" in at]
            }
        if path not in self.objects:
            raise ApiRefused(f"GET {path}", status=404, reason="NotFound")
        return self.objects[path]

    def _leases(self, path: str) -> Any:
        self._beats += 1
        now = (datetime.now(UTC) + timedelta(microseconds=self._beats)).isoformat().replace("+00:00", "Z")
        old = "2020-01-01T00:00:00.000000Z"
        if path.endswith("/leases"):
            return {
                "items": [
                    {"metadata": {"name": node}, "spec": {"renewTime": now if self._lives(node) else old}}
                    for node in self._one.states
                ]
            }
        holder = path.rpartition("/")[2]
        lives = self._lives(holder) if holder in self._one.states else self._one.runs(holder)
        return {"spec": {"renewTime": now if lives else old, "holderIdentity": holder if lives else ""}}

    def _lives(self, node: str) -> bool:
        return self._one.states[node] == "running" and self._one.units[node, "kubelet"] == "active"

    def _node(self, name: str) -> dict[str, Any]:
        ready = self._lives(name) and self._one.units[name, "containerd"] == "active"
        condition = {"type": "Ready", "status": "True" if ready else "Unknown"}
        return {"metadata": {"name": name}, "spec": {}, "status": {"conditions": [condition]}}

    def _static_pods(self) -> list[dict[str, Any]]:
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        return [
            {"metadata": {"name": f"{name}-{PLANE}"}, "spec": {}, "status": ready}
            for name in PORTS
            if self._one.runs(name)
        ]

    def _pods(self) -> list[dict[str, Any]]:
        found = []
        for path, one in self.objects.items():
            name = one["metadata"]["name"]
            places = self._allowed(one) if "/daemonsets/" in path else [PLANE] * one["spec"]["replicas"]
            found += [
                {
                    "metadata": {"name": f"{name}-{at}", "labels": {"k8s-app": name, "hash": "x"}},
                    "spec": {"nodeName": node},
                }
                for at, node in enumerate(places)
            ]
        return found


def role(name: str) -> str:
    """kind's word for a node of that name."""
    return "control-plane" if "control-plane" in name else "worker"
