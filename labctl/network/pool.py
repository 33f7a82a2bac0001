"""Which addresses of the docker network a load balancer may hand out.

Docker gives out a network's addresses from the bottom; the pools are cut from the top, one
slot per cluster, so that clusters beside each other never announce the same address. This
module is arithmetic only: it asks nobody anything.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from labctl.errors import Conflict

BLOCK = 32
"""Addresses per cluster where the network has room; a smaller network gets smaller blocks."""

SPARED = 256
"""The topmost addresses of a large network are left alone: hand-written MetalLB examples use them."""


@dataclass(frozen=True)
class Pool:
    """A range of addresses, both ends included. ``str()`` gives MetalLB's notation "first-last"."""

    first: ipaddress.IPv4Address
    last: ipaddress.IPv4Address

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    def __contains__(self, address: object) -> bool:
        try:
            return self.first <= ipaddress.IPv4Address(str(address)) <= self.last
        except ValueError:
            return False

    def __len__(self) -> int:
        return int(self.last) - int(self.first) + 1


def parse(text: str) -> Pool:
    """The inverse of ``str(pool)``. Raises ValueError."""
    first, last = (ipaddress.IPv4Address(part.strip()) for part in text.split("-"))
    if last < first:
        raise ValueError(f"{text} ends before it begins")
    return Pool(first, last)


def pool(subnet: str, slot: int) -> Pool:
    """The pool of the cluster in ``slot`` (0, 1, ...) of the IPv4 ``subnet``.

    Only the upper half of a subnet is cut into pools. Raises `Conflict` when all are given away.
    """
    network = ipaddress.IPv4Network(subnet, strict=False)
    half = network.num_addresses // 2
    block = min(BLOCK, max(4, half // 8))
    spared = SPARED if half > 4 * SPARED else block
    """In a small network the topmost block goes, for the broadcast address is in it."""
    top = int(network.broadcast_address) + 1 - spared
    last = top - slot * block - 1
    first = last - block + 1
    if slot < 0 or first < int(network.network_address) + half:
        raise Conflict(
            f"the docker network {subnet} has no addresses left for another load balancer",
            why=f"slot {slot} of {block} addresses does not fit into its upper half",
            next_step="delete a cluster (`labctl ls`), or ask for `--load-balancer none`",
        )
    return Pool(ipaddress.IPv4Address(first), ipaddress.IPv4Address(last))


def first_ipv4(subnets: tuple[str, ...]) -> str:
    """The IPv4 subnet among a docker network's subnets, or ''."""
    return next((one for one in subnets if "." in one and ":" not in one), "")
