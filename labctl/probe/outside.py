"""The machine outside the cluster, as a client and as a server.

Everything here is plain Python on the machine that runs labctl: no proxy of the environment,
no name lookups, no help of the cluster. Whether the machine can reach the nodes at all is
a property of the platform (on Linux it can); the caller decides what to make of it. It calls
nobody but itself and the docker networks of the clusters' nodes.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import http.client
import http.server
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from labctl.errors import ProbeDidNotRun
from labctl.probe import wire
from labctl.probe.answers import Dialled
from labctl.probe.objects import WHO
from labctl.tools.docker import Docker
from labctl.waiting import Deadline

TIMEOUT_SECONDS = 3.0
"""For one connection; on a docker bridge a round trip takes well under a millisecond."""

_BLOCKED = frozenset({
    errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ETIMEDOUT,
    errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EPROTO,
})  # fmt: skip
"""What a connection that somebody or something turned away ends with."""


Reach = Callable[[IPv4Address], bool]
"""Whether an address is one that the probe may send packets to."""


def networks_of(addresses: Iterable[str], docker: Docker | None) -> Reach:
    """The docker networks on which nodes with these addresses are, as far as this machine is on them itself;
    without access to docker the nodes' own addresses only. Docker is asked when it is first needed."""
    nodes = frozenset(IPv4Address(one) for one in addresses if one)

    @functools.cache
    def networks() -> tuple[IPv4Network, ...]:
        found = (
            [IPv4Network(net) for one in docker.networks() for net in one.subnets if "." in net]
            if docker
            else []
        )
        return tuple(net for net in found if any(node in net for node in nodes))

    def reach(address: IPv4Address) -> bool:
        if address in nodes:
            return True
        here = [net for net in networks() if address in net]
        # Another route than that of the network itself (a VPN's, the default one) leads somewhere else.
        return bool(here) and any(IPv4Address(address_towards(str(address))) in net for net in here)

    return reach


def address_towards(host: str) -> str:
    """The address that this machine puts on packets to ``host``; none is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unsent:
        unsent.connect((host, 9))
        return str(unsent.getsockname()[0])


class OutsideProbe:
    """The machine outside all nodes as a client, which calls itself and what ``reach`` allows, nobody else."""

    def __init__(self, reach: Reach = lambda _: False) -> None:
        self._reach = reach

    def __str__(self) -> str:
        return "this machine"

    def dial(
        self,
        host: str,
        port: int,
        *,
        tries: int = 1,
        request: str = WHO,
        timeout: float = TIMEOUT_SECONDS,
    ) -> Dialled:
        """``GET request`` over up to ``tries`` fresh connections, one after the other; ends with the first that fails.

        ``timeout`` is seconds for a whole connection. Raises `ProbeDidNotRun` for an address that is
        neither this machine's nor its clusters': a packet to a stranger is no probe.
        """
        target = f"http://{host}:{port}/{request}"
        self._refuse_strangers(host, target)
        answers: list[str] = []
        for _ in range(tries):
            try:
                answers.append(_get(host, port, request, timeout))
            except http.client.HTTPException as strange:
                why = f"not an HTTP answer: {type(strange).__name__} {strange}"
                return Dialled(target, tuple(answers), (why,), unnamed=1)
            except OSError as failed:
                return Dialled(target, tuple(answers), (_reason(failed, target, timeout),))
        return Dialled(target, tuple(answers))

    def _refuse_strangers(self, host: str, target: str) -> None:
        try:
            address = IPv4Address(host)
        except ValueError as name:
            raise ProbeDidNotRun(
                f"this machine does not call {target}", why=f"{host} is no IPv4 address"
            ) from name
        if not (address.is_loopback or self._reach(address)):
            raise ProbeDidNotRun(
                f"this machine does not call {target}",
                why=f"{host} is on no docker network of the cluster's nodes: the packet would go to a stranger",
                next_step="ask from inside such a network: a Bystander has no way out of it",
            )

    def seen_as(self, host: str, port: int) -> str:
        """The source address that the server behind ``host`` sees, or an empty text if nobody answers."""
        return self.dial(host, port, request="clientip").answer.rpartition(":")[0].strip("[]")

    def address_towards(self, host: str) -> str:
        """The address that this machine puts on packets to ``host``."""
        return address_towards(host)

    def neighbour(self, address: str) -> str:
        """The hardware address under which this machine last reached ``address``, or an empty text (Linux)."""
        table = Path("/proc/net/arp")
        rows = table.read_text().splitlines()[1:] if table.exists() else []
        return next(
            (
                row.split()[3]
                for row in rows
                if row.split()[0] == address and row.split()[3] != "00:00:00:00:00:00"
            ),
            "",
        )


@dataclass
class Visitors:
    """Who called an `outside_server`: ``calls`` holds (client address, Host header, path)."""

    address: str
    port: int
    calls: list[tuple[str, str, str]] = field(default_factory=list)


@contextlib.contextmanager
def outside_server(address: str, body: str) -> Iterator[Visitors]:
    """An HTTP server on this machine, on ``address`` only, that answers ``body`` while the block lasts.

    Raises `ProbeDidNotRun` when this machine does not own ``address``.
    """
    visitors = Visitors(address, 0)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            visitors.calls.append((self.client_address[0], self.headers.get("Host", ""), self.path))
            payload = body.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
            """Stay silent: the visitors are kept, not logged."""

    try:
        server = http.server.ThreadingHTTPServer((address, 0), Handler)
    except OSError as refused:
        raise ProbeDidNotRun(
            f"no server can listen on {address} of this machine", why=str(refused)
        ) from refused
    visitors.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield visitors
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def _get(host: str, port: int, path: str, timeout: float) -> str:
    """One request, read to its end or the most an answer may have, within ``timeout`` seconds in all."""
    deadline = Deadline(timeout)
    received = bytearray()
    with contextlib.closing(socket.create_connection((host, port), timeout=timeout)) as conversation:
        conversation.sendall(wire.request(host, port, path))
        while len(received) < wire.MOST_BYTES:
            if deadline.over():
                raise TimeoutError
            conversation.settimeout(max(deadline.left(), 0.001))
            if not (piece := conversation.recv(wire.MOST_BYTES)):
                break
            received += piece
    return wire.body(bytes(received))


def _reason(failed: OSError, target: str, timeout: float) -> str:
    if isinstance(failed, TimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(failed, ConnectionRefusedError):
        return "connection refused"
    if failed.errno in _BLOCKED or isinstance(failed, ConnectionError):
        return failed.strerror or str(failed)
    raise ProbeDidNotRun(f"this machine could not try {target}", why=str(failed)) from failed
