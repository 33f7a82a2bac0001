"""Ports of this machine that a cluster file asks for: each can be had once, and from here only.

kind compares the mappings of one node; docker refuses the second of two nodes, when the first runs already.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from labctl.cluster.file.shape import RAW_OPTION, Judge, child, items, number, text
from labctl.cluster.file.yamlfile import Position, Tree

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

LOOPBACK = ipaddress.IPv4Address("127.0.0.1")
"""Where labctl listens if nothing else is said."""


@dataclass(frozen=True)
class Wanted:
    """A port of this machine that the cluster listens on."""

    place: Position
    port: int
    protocol: str
    address: Address

    def clashes(self, other: Wanted) -> bool:
        """Whether the two cannot be had together; an unspecified address takes the port everywhere."""
        if (self.port, self.protocol) != (other.port, other.protocol):
            return False
        return self.address == other.address or self.address.is_unspecified or other.address.is_unspecified


def check_ports(block: Tree, judge: Judge) -> None:
    """Report listen addresses that are none or open a port to others, and ports asked for twice."""
    wanted: list[Wanted] = []
    api = child(child(block, "networking"), "apiServerPort")
    if api is not None and (port := number(api)):
        wanted.append(Wanted(api.place, port, "TCP", LOOPBACK))
    for node in items(child(block, "nodes")):
        for mapping in items(child(node, "extraPortMappings")):
            if (one := _wanted(mapping, judge)) is not None:
                wanted.append(one)
    for at, one in enumerate(wanted):
        first = next((other for other in wanted[:at] if other.clashes(one)), None)
        if first:
            judge.add(
                one.place,
                f"this port is asked for a second time, first in line {first.place.line}",
                f"{one.address} {one.port}/{one.protocol}",
                "each port once",
            )


def local(address: Address) -> bool:
    """Whether no other machine or pod can have the address."""
    return (
        address.is_loopback
        or address.is_multicast
        or address.is_link_local
        or address.is_unspecified
        or address.is_reserved
    )


def _wanted(mapping: Tree, judge: Judge) -> Wanted | None:
    address: Address | None = LOOPBACK
    listen = child(mapping, "listenAddress")
    if listen is not None:
        address = _address(text(listen) or "")
        if address is None:
            judge.add(listen.place, "listenAddress is no address", text(listen) or "", str(LOOPBACK))
        elif not address.is_loopback and not judge.allow_raw:
            judge.add(listen.place, "this opens the port to other machines", text(listen) or "",
                      f"{LOOPBACK}, or {RAW_OPTION}")  # fmt: skip
    port = child(mapping, "hostPort")
    if port is None or address is None or not number(port):
        return None
    return Wanted(port.place, number(port) or 0, (text(child(mapping, "protocol")) or "TCP").upper(), address)


def _address(written: str) -> Address | None:
    """The address, the IPv4 one where it is written in IPv6; None for names and for zones of a link."""
    try:
        found = ipaddress.ip_address(written)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        return None if found.scope_id else found.ipv4_mapped or found
    return found
