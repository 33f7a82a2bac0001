"""Checks of what the machine has: processors, memory, disk, kernel limits."""

from __future__ import annotations

from pathlib import Path

from labctl import paths
from labctl.host.checkup import Checkup
from labctl.host.finding import Answer, Needs, fail, ok, skip, warn

MIB = 1024 * 1024
GIB = 1024 * MIB

CORES = 2
"""kubeadm's own preflight asks for two; kind skips that preflight, and one core works, slowly."""

CONTROL_PLANE_MEMORY = 700 * MIB
"""In use by an idle control plane: 530-670 MiB with the built node image."""
WORKER_MEMORY = 320 * MIB
"""In use by an idle worker: 120-270 MiB (page cache included) with the built image, 312 with the other."""
LABS_MEMORY = 256 * MIB
"""For the pods of the labs: at most about ten at a time, each well below 25 MiB."""

NODE_DISK = 5 * GIB // 4
"""Written per node: 0.9 GB (worker) to 1.2 GB (control plane), mostly the image's /var in a volume."""
BUILD_DISK = 12 * GIB
"""Written by a first build of the node image: modules 3 GB, Go's build cache 5 GB and more, images."""
PULL_DISK = 3 * GIB
"""A pulled kind node image, compressed and unpacked (about 1 GB and its download)."""
STATE_DISK = 200 * MIB
"""Journal and kubeconfig take a few KiB; the rest is for the bundle of a failed run."""
DISK_SHARE = 0.05
"""Less free space than this share gets a warning: kind switches the kubelet's disk eviction off."""

INOTIFY_INSTANCES = 512
INOTIFY_WATCHES = 524288
"""Both figures are kind's own advice ("too many open files" in its known issues)."""
CONTROL_PLANE_INSTANCES = 28
WORKER_INSTANCES = 16
"""Counted in /proc on an idle 1+2 cluster (systemd 4, kubelet 7, API server 6, ...). They agree with two
runs: 3 nodes work with the kernel's default of 128; with 21 kubeadm fails and does not say why."""
RAISE_INOTIFY = "`labctl host prepare` as root raises both (to 2048 and 1048576)"
HOST_INSTANCES = 40
"""Left for the programs of the host's own root user."""
WATCHES_PER_NODE = 300
"""829 were counted on the same three nodes."""


def cores(checkup: Checkup) -> Answer:
    """Processors for the nodes."""
    found = checkup.machine.cores()
    if found < CORES:
        return warn(
            f"{found} core", f"give the machine {CORES} cores; expect every wait to take twice as long"
        )
    return ok(f"{found} cores")


def memory_needed(needs: Needs) -> int:
    """Bytes for an idle cluster of that size and the labs on it."""
    return needs.control_planes * CONTROL_PLANE_MEMORY + needs.workers * WORKER_MEMORY + LABS_MEMORY


def memory(checkup: Checkup) -> Answer:
    """Memory for the nodes asked for."""
    needed = memory_needed(checkup.needs)
    found = checkup.machine.memory_available()
    if found is None and checkup.docker_answers:
        found = int(checkup.info.get("MemTotal") or 0) or None
    if found is None:
        return skip("memory cannot be read here")
    seen = f"{found / GIB:.1f} GiB available, {needed / GIB:.1f} GiB needed for {checkup.needs.nodes} nodes"
    if found < needed:
        return fail(seen, "ask for fewer workers, or free memory")
    return ok(seen)


def docker_disk(checkup: Checkup) -> Answer:
    """Room for the node image and the nodes where docker keeps its data."""
    if not checkup.docker_answers:
        return _disk(checkup, Path("/var/lib/docker"), _docker_need(checkup, present=False), "docker's data")
    root = Path(str(checkup.info.get("DockerRootDir") or "/var/lib/docker"))
    return _disk(checkup, root, _docker_need(checkup, present=bool(checkup.present_image)), "docker's data")


def state_disk(checkup: Checkup) -> Answer:
    """Room for the state and the bundles."""
    return _disk(checkup, paths.state_root(), STATE_DISK, "labctl's state")


def _docker_need(checkup: Checkup, *, present: bool) -> int:
    nodes = checkup.needs.nodes * NODE_DISK
    if present or not checkup.needs.images:
        return nodes
    return nodes + (PULL_DISK if checkup.needs.source == "pull" else BUILD_DISK)


def _disk(checkup: Checkup, path: Path, needed: int, whose: str) -> Answer:
    found = checkup.machine.disk_free(path)
    if found is None:
        return skip(f"{path} is not on this machine")
    free, total = found
    seen = f"{free / GIB:.1f} GiB free for {whose} in {path}, {needed / GIB:.1f} GiB needed"
    if free < needed:
        return fail(seen, "free space there (`docker system df` shows what docker holds)")
    if free < total * DISK_SHARE:
        return warn(f"{seen}; it is {100 - 100 * free / total:.0f} % full", "free space before it runs full")
    return ok(seen)


def inotify(checkup: Checkup) -> Answer:
    """All nodes share the host's inotify limits, and kubeadm does not name them when they are reached."""
    instances = checkup.machine.number("/proc/sys/fs/inotify/max_user_instances")
    watches = checkup.machine.number("/proc/sys/fs/inotify/max_user_watches")
    if instances is None or watches is None:
        return skip("the limits cannot be read here")
    needs = checkup.needs
    needed = (
        needs.control_planes * CONTROL_PLANE_INSTANCES + needs.workers * WORKER_INSTANCES + HOST_INSTANCES
    )
    seen = f"max_user_instances={instances}, max_user_watches={watches}"
    if instances < needed or watches < needs.nodes * WATCHES_PER_NODE:
        enough = f"{needed} and {needs.nodes * WATCHES_PER_NODE}"
        return fail(f"{seen}; {needs.nodes} nodes need about {enough}", RAISE_INOTIFY)
    if instances < INOTIFY_INSTANCES or watches < INOTIFY_WATCHES:
        return warn(f"{seen}; kind advises {INOTIFY_INSTANCES} and {INOTIFY_WATCHES}", RAISE_INOTIFY)
    return ok(seen)
