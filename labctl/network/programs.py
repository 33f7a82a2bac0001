"""The CNI programs in /opt/cni/bin of the nodes.

kind's own node image carries few of them. What a plugin needs and a node lacks is copied in:
from this machine's containernetworking-plugins package, fetched (not installed) where it is absent.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from labctl import paths, process
from labctl.errors import CommandFailed, CommandTimedOut, ImageUnavailable, ToolMissing
from labctl.progress import Progress
from labctl.tools.docker import Docker

DIRECTORY = "/opt/cni/bin"
PACKAGE = "containernetworking-plugins"
INSTALLED = Path("/usr/lib/cni")
FETCH_SECONDS = 120.0


def ensure(wanted: Sequence[str], docker: Docker, nodes: Sequence[str], progress: Progress) -> frozenset[str]:
    """Bring the programs onto each node that lacks one; returns what every node has afterwards.

    Raises `ImageUnavailable` when one is neither on the node nor to be had here.
    """
    with ThreadPoolExecutor(max_workers=8) as pool:
        there = dict(zip(nodes, pool.map(lambda node: listed(docker, node), nodes), strict=True))
    lacking = {node: [name for name in wanted if name not in there[node]] for node in nodes}
    if any(lacking.values()):
        with progress.step("Copy CNI programs onto the nodes") as step:
            source = _source(sorted({name for names in lacking.values() for name in names}))
            for node, names in lacking.items():
                for name in names:
                    docker.copy_in(node, source / name, f"{DIRECTORY}/{name}")
                    there[node] |= {name}
            step.result(", ".join(sorted({name for names in lacking.values() for name in names})))
    return frozenset.intersection(*there.values()) if there else frozenset()


def listed(docker: Docker, node: str) -> frozenset[str]:
    """The programs that a node has."""
    return frozenset(docker.exec(node, ["ls", DIRECTORY], check=False).stdout.split())


def _source(names: Sequence[str]) -> Path:
    """A directory of this machine that holds all of ``names``."""
    kept = paths.cache_root() / "cni"
    for place in (INSTALLED, kept / "usr/lib/cni"):
        if all((place / name).is_file() for name in names):
            return place
    try:
        with tempfile.TemporaryDirectory(prefix="labctl-") as directory:
            process.run(["apt-get", "download", PACKAGE], timeout=FETCH_SECONDS, cwd=Path(directory))
            package = next(Path(directory).glob("*.deb"))
            kept.mkdir(parents=True, exist_ok=True)
            process.run(["dpkg-deb", "--extract", str(package), str(kept)], timeout=FETCH_SECONDS)
    except (CommandFailed, CommandTimedOut, ToolMissing, StopIteration) as failed:
        raise ImageUnavailable(
            f"the CNI programs {', '.join(names)} are not on the nodes and cannot be had here",
            why=str(failed) or "apt fetched nothing",
            next_step=f"install the package {PACKAGE} on this machine, or build: `labctl image build`",
        ) from failed
    place = kept / "usr/lib/cni"
    if missing := [name for name in names if not (place / name).is_file()]:
        raise ImageUnavailable(f"the package {PACKAGE} does not hold {', '.join(missing)}")
    return place
