"""Checks of the docker daemon and of what it can start."""

from __future__ import annotations

import os
import re

from labctl.errors import HostError, ToolUnfit
from labctl.host.checkup import Checkup
from labctl.host.finding import Answer, fail, ok, skip, warn
from labctl.host.machine import CAP_SYS_RESOURCE
from labctl.tools.kind import CLUSTER_LABEL

OLDEST_DOCKER = (20, 10)
"""The first release with ``--cgroupns``, which kind gives to every node; labctl was proven on 20.10.24."""

PREPARE = "labctl host prepare"
NO_DOCKER = "docker does not answer"


def answers(checkup: Checkup) -> Answer:
    """A daemon answers, and this user may talk to it."""
    error = checkup.docker_error
    if error is not None:
        kind = type(error) if isinstance(error, HostError) else HostError
        return fail(f"{error.what}: {error.why}", error.next_step, kind)
    host = os.environ.get("DOCKER_HOST", "")
    if host and not host.startswith("unix://"):
        return warn(
            f"the daemon at {host} answers",
            "all figures are those of this machine: unset DOCKER_HOST to use its own daemon",
        )
    return ok("the daemon answers")


def version(checkup: Checkup) -> Answer:
    """The daemon is recent enough for kind."""
    if not checkup.docker_answers:
        return skip(NO_DOCKER)
    server = checkup.server_version
    found = re.match(r"(\d+)\.(\d+)", server)
    if found and (int(found[1]), int(found[2])) < OLDEST_DOCKER:
        return fail(
            f"docker {server}", f"install docker {'.'.join(map(str, OLDEST_DOCKER))} or later", ToolUnfit
        )
    return ok(f"docker {server}")


def storage(checkup: Checkup) -> Answer:
    """Containers share the layers of their image; with vfs each node would be a full copy of gigabytes."""
    if not checkup.docker_answers:
        return skip(NO_DOCKER)
    driver = str(checkup.info.get("Driver", "unknown"))
    if driver == "vfs":
        return warn(
            "storage driver vfs copies the whole image for every node",
            "put docker's data root on ext4 or xfs",
        )
    return ok(f"storage driver {driver}")


def privileged(checkup: Checkup) -> Answer:
    """A container starts with the rights that kind gives to a node."""
    if not checkup.docker_answers:
        return skip(NO_DOCKER)
    error = checkup.start_error
    runtime = checkup.info.get("DefaultRuntime", "unknown")
    if error is None:
        return ok(
            f"{'a node runs' if checkup.node_runs else 'one was started and ran'}, with runtime {runtime}"
        )
    lines = [line.strip() for line in error.details.splitlines() if "rror" in line]
    seen = lines[0] if lines else error.why
    if "unable to apply caps" in error.details:
        return fail(seen, f"`{PREPARE}` sets up a runtime that asks only for what this machine has")
    return fail(seen, "start one by hand to see it alone: docker run --rm --privileged IMAGE")


def capability(checkup: Checkup) -> Answer:
    """CAP_SYS_RESOURCE can be had, or docker's runtime does without it."""
    has = checkup.machine.bounding_set_has(CAP_SYS_RESOURCE)
    if has is None:
        return skip("the capabilities of this system cannot be read")
    if has:
        return ok("it is in the bounding set")
    if not checkup.docker_answers:
        return warn(
            "it is not in the bounding set: privileged containers will need a runtime without it", PREPARE
        )
    if checkup.start_error is None:
        return ok(f"not in the bounding set; runtime {checkup.info.get('DefaultRuntime')} does without it")
    return fail("it is not in the bounding set, and docker's runtime asks for it", PREPARE)


def cgroup(checkup: Checkup) -> Answer:
    """Which cgroup version the nodes will live in."""
    said = str(checkup.info.get("CgroupVersion") or "") if checkup.docker_answers else ""
    found = int(said) if said.isdigit() else checkup.machine.cgroup_version()
    if found is None:
        return skip("no cgroup hierarchy can be read here")
    if found == 1 and checkup.needs.source == "pull":
        return warn(
            "cgroup v1: a pulled node image may carry a systemd that no longer boots on it",
            "let labctl build the node image, or boot with cgroup v2",
        )
    return ok("cgroup v2" if found == 2 else "cgroup v1: the kubelet is told to accept it")


def dead_nodes(checkup: Checkup) -> Answer:
    """No node container of a kind cluster was left behind by a stopped daemon."""
    if not checkup.docker_answers:
        return skip(NO_DOCKER)
    dead = [one for one in checkup.containers if CLUSTER_LABEL in one.labels and one.state != "running"]
    if not dead:
        return ok("every node container runs")
    clusters = sorted({one.labels[CLUSTER_LABEL] for one in dead})
    named = ", ".join(f"{one.name} ({one.state})" for one in dead)
    return warn(f"not running: {named}", f"labctl status {clusters[0]}")
