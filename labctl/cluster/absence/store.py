"""Where markers are kept: on this machine and on the cluster's first control plane, both before anything is taken.

Neither needs the API server, which may be what is away. The machine's copy outlives a node that is frozen;
the node's copy is seen by every user of the docker daemon and goes with the cluster.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from labctl import files, paths
from labctl.cluster.absence import marker as markers
from labctl.cluster.absence.marker import Marker
from labctl.cluster.running import RunningCluster
from labctl.errors import CommandFailed, CommandTimedOut, NodeDown
from labctl.tools.docker import Docker

ON_NODE = "/var/lib/labctl/absences"
"""In a kind node /var is a volume, which outlives a stop of the container."""

_WRITE = 'mkdir -p "$1" && cat > "$1/.$2" && sync "$1/.$2" && mv "$1/.$2" "$1/$2"'
_READ = 'for one in "$1"/*.json; do [ ! -e "$one" ] || { cat "$one"; echo; }; done'
_REMOVE = 'rm -f "$1/$2" "$1/.$2"; rmdir "$1" 2>/dev/null; [ ! -e "$1/$2" ]'


def directory(cluster: str) -> Path:
    """Where this user's copies lie."""
    return paths.cluster_state(cluster) / "absences"


def plane(cluster: RunningCluster) -> str:
    """The container that keeps the other copies, '' where nodes cannot be entered."""
    return next((one.container for one in cluster.control_planes if one.container), "")


def write(marker: Marker, cluster: RunningCluster, docker: Docker) -> None:
    """Keep a marker in both places. Raises `WriteFailed`, `NodeDown`, `CommandFailed`."""
    files.write(directory(cluster.name) / f"{marker.id}.json", marker.as_json() + "\n")
    docker.exec(
        plane(cluster), ["sh", "-c", _WRITE, "sh", ON_NODE, f"{marker.id}.json"], stdin=marker.as_json()
    )


def remove(marker: Marker, cluster: RunningCluster, docker: Docker) -> None:
    """Forget a marker, the node's copy first. Raises `NodeDown`, `CommandFailed`, OSError; absent is no error."""
    docker.exec(plane(cluster), ["sh", "-c", _REMOVE, "sh", ON_NODE, f"{marker.id}.json"])
    (directory(cluster.name) / f"{marker.id}.json").unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        directory(cluster.name).rmdir()


def read(cluster: RunningCluster, docker: Docker) -> tuple[Marker, ...]:
    """Every marker of this cluster, oldest first; one of a former cluster of that name is none. Changes nothing.

    While the control plane does not run, only this machine's are known.
    """
    found = {one.id: one for one in _on_disk(cluster.name)}
    if not plane(cluster):
        return tuple(found.values())
    with contextlib.suppress(NodeDown, CommandFailed, CommandTimedOut):
        found |= {one.id: one for one in _on_node(plane(cluster), docker)}
    if found:
        there = identity(cluster, docker)
        found = {one.id: one for one in found.values() if one.plane == there}
    return tuple(sorted(found.values(), key=lambda one: (one.since, one.id)))


def identity(cluster: RunningCluster, docker: Docker) -> str:
    """Docker's id of the control plane's container: another one is another cluster."""
    return str(docker.inspect(plane(cluster))[0]["Id"])


def _on_disk(cluster: str) -> Iterator[Marker]:
    for path in sorted(directory(cluster).glob("*.json")):
        with contextlib.suppress(OSError):
            if one := markers.parse(path.read_text("utf-8", "replace")):
                yield one


def _on_node(container: str, docker: Docker) -> list[Marker]:
    said = docker.exec(container, ["sh", "-c", _READ, "sh", ON_NODE], timeout=20.0).stdout
    return list(filter(None, map(markers.parse, filter(str.strip, said.splitlines()))))
