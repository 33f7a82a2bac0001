"""What a cluster asks of its machine, and what the machine forces on the cluster's nodes."""

from __future__ import annotations

from labctl.cluster.spec import ClusterSpec
from labctl.cluster.up import kindconfig
from labctl.cluster.up.kindconfig import MachineNeeds
from labctl.errors import HostError
from labctl.host.finding import HostPort, Needs, Source
from labctl.host.machine import CAP_SYS_RESOURCE, Machine
from labctl.images.lockfile import load as image_lock
from labctl.tools.docker import Docker


def of_machine(
    spec: ClusterSpec, *, image: str = "", source: Source = "auto", new: bool = True, replaces: str = ""
) -> Needs:
    """What the machine must be able to carry for ``spec``; only a ``new`` cluster needs its ports free.

    ``image`` is a node image that the user names, '' for the locked ones; ``replaces`` the name of a
    cluster that is deleted first.
    """
    locked = image_lock()
    names = (locked.built.image.reference, locked.pulled.image.pull_reference)
    ports = kindconfig.host_ports(spec) if new else ()
    return Needs(
        control_planes=spec.control_planes,
        workers=spec.workers,
        ports=tuple(HostPort(port, at, "udp" if proto == "udp" else "tcp") for port, at, proto in ports),
        pod_subnet=spec.pod_subnet,
        service_subnet=spec.service_subnet,
        proxy_mode=spec.proxy_mode,
        images=(image,) if image else names,
        source=source,
        replaces=replaces,
    )


def of_nodes(docker: Docker) -> MachineNeeds:
    """What the docker host forces on the nodes: settings that kind's configuration must carry."""
    return _forced(cgroup_v1=str(docker.info().get("CgroupVersion") or "") == "1")


def of_nodes_here(docker: Docker) -> MachineNeeds:
    """The same; where docker does not answer, what this machine shows of itself."""
    try:
        return of_nodes(docker)
    except HostError:
        return _forced(cgroup_v1=Machine().cgroup_version() == 1)


def _forced(*, cgroup_v1: bool) -> MachineNeeds:
    lacks = Machine().bounding_set_has(CAP_SYS_RESOURCE) is False
    return MachineNeeds(cgroup_v1=cgroup_v1, restrict_oom_score_adj=lacks)
