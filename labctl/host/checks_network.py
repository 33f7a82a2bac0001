"""Checks of ports and addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from labctl.errors import PortTaken
from labctl.host.checkup import Checkup
from labctl.host.finding import Answer, HostPort, fail, ok, skip, warn
from labctl.host.machine import Listener
from labctl.tools.kind import CLUSTER_LABEL

Net = ipaddress.IPv4Network | ipaddress.IPv6Network

KIND_NETWORK = "kind"
"""The docker network on which kind puts every node of every cluster."""
ANY = ("0.0.0.0", "::")  # noqa: S104  # compared with, not listened on


def ports(checkup: Checkup) -> Answer:
    """The host ports asked for are free."""
    wanted = checkup.needs.ports
    if not wanted:
        return ok("none asked for")
    if not checkup.machine.is_linux:
        return skip("sockets cannot be listed here")
    published = _published(checkup)
    listeners = checkup.machine.listeners()
    leaving = _leaving(checkup)
    taken = [
        f"{port} by {owner}"
        for port in wanted
        if leaving.isdisjoint(published.get((port.port, port.protocol), ()))
        and (owner := _owner(checkup, port, listeners, published))
    ]
    if taken:
        return fail(
            f"taken: {', '.join(taken)}", "stop what holds the port, or ask for another one", PortTaken
        )
    return ok(f"free: {', '.join(map(str, wanted))}")


def _owner(
    checkup: Checkup,
    port: HostPort,
    listeners: Iterable[Listener],
    published: dict[tuple[int, str], list[str]],
) -> str:
    if containers := published.get((port.port, port.protocol)):
        return f"container {containers[-1]}"
    for one in listeners:
        same = (one.port, one.protocol) == (port.port, port.protocol)
        if same and (one.address == port.address or one.address in ANY or port.address in ANY):
            return checkup.machine.owner(one.inode) or "a program of another user"
    return ""


def _leaving(checkup: Checkup) -> set[str]:
    """The containers of the cluster that is replaced: what they hold is free then."""
    if not (checkup.needs.replaces and checkup.docker_answers):
        return set()
    return {one.name for one in checkup.containers if one.labels.get(CLUSTER_LABEL) == checkup.needs.replaces}


def _published(checkup: Checkup) -> dict[tuple[int, str], list[str]]:
    """(port, protocol) -> containers, also where docker forwards without a listening program."""
    running = (
        [one.name for one in checkup.containers if one.state == "running"] if checkup.docker_answers else []
    )
    found: dict[tuple[int, str], list[str]] = {}
    for row in checkup.docker.inspect(*running) if running else []:
        for inside, bindings in (row.get("NetworkSettings", {}).get("Ports") or {}).items():
            for binding in bindings or ():
                key = (int(binding["HostPort"]), inside.partition("/")[2])
                found.setdefault(key, []).append(str(row["Name"]).lstrip("/"))
    return found


def subnets(checkup: Checkup) -> Answer:
    """Pod, service, node and host addresses do not overlap."""
    pods, services = _networks(checkup.needs.pod_subnet), _networks(checkup.needs.service_subnet)
    choose = (
        "choose other subnets: podSubnet and serviceSubnet below kindConfig.networking of the cluster file"
    )
    if clash := _overlap(pods, services):
        return fail(f"pod subnet {clash[0]} overlaps service subnet {clash[1]}", choose)
    if checkup.docker_answers:
        nodes = next((one for one in checkup.networks if one.name == KIND_NETWORK), None)
        if nodes and (clash := _overlap((*pods, *services), _networks(",".join(nodes.subnets)))):
            return fail(f"{clash[0]} overlaps {clash[1]} of the docker network {KIND_NETWORK}", choose)
    for route in checkup.machine.routes():
        if clash := _overlap((*pods, *services), (route.network,)):
            where = f"{route.network} ({route.interface})"
            return warn(f"{clash[0]} overlaps the route to {where}: nodes cannot reach it", choose)
    return ok(f"pods {checkup.needs.pod_subnet}, services {checkup.needs.service_subnet}")


def service_proxy(checkup: Checkup) -> Answer:
    """The kernel has what kube-proxy's mode stands on."""
    mode = checkup.needs.proxy_mode
    if mode != "ipvs":
        return ok(f"mode {mode}")
    if not checkup.machine.is_linux:
        return skip("the kernel of the nodes cannot be looked at here")
    # Without it kube-proxy ends at each start, and all that is seen of that is a CoreDNS that never answers.
    if not checkup.machine.kernel_has("ip_vs"):
        return fail(
            "kubeProxyMode ipvs: this kernel has no module ip_vs, without which kube-proxy does not start",
            "choose kubeProxyMode iptables or nftables, or a kernel with ip_vs",
        )
    return ok("mode ipvs: the kernel has ip_vs")


def _networks(text: str) -> tuple[Net, ...]:
    """One subnet, or an IPv4 and an IPv6 one with a comma between."""
    return tuple(ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())


def _overlap(some: Iterable[Net], others: Iterable[Net]) -> tuple[Net, Net] | None:
    rest = list(others)
    return next(
        (
            (one, other)
            for one in some
            for other in rest
            if one.version == other.version and one.overlaps(other)
        ),
        None,
    )
