"""The private kubeconfig of a cluster, kept equal to what the cluster says.

kind writes kubeconfigs in place and never renews them. Here the admin's credentials are read from
the control plane's own file, the server address from docker's port mapping, and the result is
written whole or not at all. The certificate authority is always the cluster's: verification is
never switched off. The user's own kubeconfig is unknown here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from labctl import files
from labctl.cluster.mark import KIND_ROLE
from labctl.errors import CommandFailed, StateUnusable
from labctl.tools.docker import Docker
from labctl.tools.kubectl import ADMIN

API_PORT = "6443/tcp"
HEAD = "# Written by labctl; renewed when it does not fit the cluster:"


@dataclass(frozen=True)
class KubeconfigEntry:
    """Where a cluster's API server is found: a control-plane container, and a URL on this machine."""

    name: str
    container: str
    container_id: str
    server: str


def entry(described: Sequence[Mapping[str, Any]]) -> KubeconfigEntry | None:
    """The entry to a cluster made of these containers, or None while no control plane and port is there."""
    by_role: dict[str, list[Mapping[str, Any]]] = {}
    for one in described:
        if one["State"]["Status"] == "running":
            by_role.setdefault((one["Config"].get("Labels") or {}).get(KIND_ROLE, ""), []).append(one)
    planes = sorted(by_role.get("control-plane", ()), key=lambda one: str(one["Name"]))
    front = by_role.get("external-load-balancer") or planes
    for gate in front:
        for binding in ((gate.get("NetworkSettings") or {}).get("Ports") or {}).get(API_PORT) or ():
            if planes:
                host = binding.get("HostIp") or "127.0.0.1"
                host = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104  # compared, not listened on
                server = f"https://{f'[{host}]' if ':' in host else host}:{binding['HostPort']}"
                plane = planes[0]
                container = str(plane["Name"]).lstrip("/")
                return KubeconfigEntry(
                    container.rsplit("-control-plane", 1)[0], container, str(plane["Id"]), server
                )
    return None


def refresh(path: Path, entry: KubeconfigEntry, docker: Docker) -> bool:
    """Write the kubeconfig at ``path`` unless it fits ``entry`` already; returns whether it was written.

    It is left alone while the control plane has no credentials yet (kubeadm still works).
    Raises `WriteFailed`, `StateUnusable` when the node's own file cannot be understood.
    """
    if fits(path, entry):
        return False
    try:
        admin = docker.exec(entry.container, ["cat", ADMIN]).stdout
    except CommandFailed:
        return False
    files.write(path, compose(admin, entry))
    return True


def compose(admin: str, entry: KubeconfigEntry) -> str:
    """kubeadm's ``admin.conf`` turned into a kubeconfig for this machine. Raises `StateUnusable`."""
    try:
        config = yaml.safe_load(admin)
        for cluster in config["clusters"]:
            cluster["cluster"]["server"] = entry.server
            if not cluster["cluster"].get("certificate-authority-data"):
                raise KeyError("certificate-authority-data")
        body = yaml.safe_dump(_renamed(config, f"labctl-{entry.name}"), sort_keys=False)
    except (yaml.YAMLError, KeyError, TypeError, IndexError) as cause:
        raise StateUnusable(
            f"the control plane {entry.container} has no usable {ADMIN}",
            why=" ".join(str(cause).split()),
            next_step="recreate the cluster: the `labctl up` that made it, with --replace",
        ) from cause
    return f"{_head(body, entry)}\n{body}"


def fits(path: Path, entry: KubeconfigEntry) -> bool:
    """Whether the file is what `compose` once wrote for exactly this control plane and address."""
    try:
        head, _, body = path.read_text("utf-8").partition("\n")
    except (OSError, ValueError):
        return False
    return head == _head(body, entry)


def _head(body: str, entry: KubeconfigEntry) -> str:
    digest = hashlib.sha256(body.encode()).hexdigest()
    return f"{HEAD} {entry.container_id[:12]} {entry.server} {digest[:16]}"


def _renamed(config: dict[str, Any], name: str) -> dict[str, Any]:
    """The same with one cluster, user and context, all called ``name``."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": config["clusters"][0]["cluster"]}],
        "users": [{"name": name, "user": config["users"][0]["user"]}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
