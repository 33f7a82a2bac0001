"""A caller on the nodes' network that is no node, and that cannot leave this network.

A container of the nodes' own image, beside the nodes on their docker network, whose default route is
taken away before it calls anybody. It asks the network itself who has an address ("who has 10.96.0.1?"), so
an address that nobody there has is one that nobody answers for, and no packet ever goes to a router. Each
round of calls is a container of its own that ends within seconds: nothing of it stays, whatever happens.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from http.client import HTTPException
from ipaddress import AddressValueError, IPv4Address
from typing import Any

from labctl.errors import LabctlError, ProbeDidNotRun
from labctl.probe import wire
from labctl.probe.answers import Dialled
from labctl.probe.objects import WHO
from labctl.process import Completed
from labctl.tools.docker import Docker

TIMEOUT_SECONDS = 1.5
"""For one call: on a docker bridge an answer takes well under a millisecond, silence takes for ever."""

START_SECONDS = 60.0
"""For a container to start and end on a busy machine; it takes less than one on an idle one."""

LABEL = "labctl.dev/probe=bystander"

NOT_CONNECTED = 7
TIMED_OUT = 124
"""The exit code of coreutils' timeout."""

_CALL = f"""
exec 3<>"/dev/tcp/$1/$2" || exit {NOT_CONNECTED}
cat >&3
exec head -c {wire.MOST_BYTES} <&3
"""
_SCRIPT = f"""
set -o pipefail
while ip -4 route del default 2>/dev/null; do :; done
test -z "$(ip -4 route show default)" || exit
port=$1 limit=$2 request=$3
shift 3
call() {{
  said=$(
    printf %s "$request" | base64 --decode |
      timeout --foreground "$limit" bash -c '{_CALL}' bash "$1" "$port" 2>&1 | base64 --wrap=0
  )
  echo "$1 $? $said"
}}
for host; do ip -4 route replace "$host/32" dev eth0 || exit; done
for host; do call "$host" & done
wait
"""
_OPTIONS = (
    "--rm", f"--label={LABEL}", "--entrypoint=/bin/bash", "--read-only",
    "--cap-drop=ALL", "--cap-add=NET_ADMIN", "--security-opt=no-new-privileges",
)  # fmt: skip


class Bystander:
    """``node`` is the container of a node: its image and its network are taken."""

    def __init__(self, docker: Docker, node: str) -> None:
        self._docker = docker
        self._node = node

    def __str__(self) -> str:
        return "a bystander on the nodes' network"

    def dial(self, host: str, port: int, *, request: str = WHO, timeout: float = TIMEOUT_SECONDS) -> Dialled:
        """`dial_each` for one address."""
        (seen,) = self.dial_each([host], port, request=request, timeout=timeout)
        return seen

    def dial_each(
        self, hosts: Sequence[str], port: int, *, request: str = WHO, timeout: float = TIMEOUT_SECONDS
    ) -> list[Dialled]:
        """``GET request`` over one connection to each of ``hosts``, all at the same moment.

        Hosts are IPv4 addresses, asked for on the nodes' network only; ``timeout`` is seconds for a connection.
        Raises `ProbeDidNotRun` when the container cannot be started or a call cannot be made.
        """
        targets = {host: f"http://{host}:{port}/{request}" for host in hosts}
        for host, target in targets.items():
            self._refuse_names(host, target)
        done = self._run(hosts, port, request, timeout)
        said = dict(_line(one) for one in done.stdout.splitlines() if one.count(" ") == 2)
        if missing := [target for host, target in targets.items() if host not in said]:
            raise self._did_not_run(missing[0], f"exit code {done.exit_code}: {done.stderr.strip()}")
        return [self._seen(target, *said[host], timeout) for host, target in targets.items()]

    def _seen(self, target: str, code: int, said: str, timeout: float) -> Dialled:
        if code == TIMED_OUT:
            return Dialled(target, refusals=(f"no answer within {timeout:g} s",))
        if code == NOT_CONNECTED:
            return Dialled(target, refusals=(said.strip().rpartition(": ")[2].lower(),))
        if code:
            raise self._did_not_run(target, f"exit code {code}: {said.strip()}")
        try:
            return Dialled(target, (wire.body(said.encode()),))
        except HTTPException as strange:
            why = f"not an HTTP answer: {type(strange).__name__} {strange}"
            return Dialled(target, refusals=(why,), unnamed=1)

    def _run(self, hosts: Sequence[str], port: int, request: str, timeout: float) -> Completed:
        wired = base64.b64encode(wire.request(hosts[0], port, request)).decode()
        try:
            node: dict[str, Any] = self._docker.inspect(self._node)[0]
            network = next(iter(node["NetworkSettings"]["Networks"]))
            return self._docker.run(
                str(node["Image"]),
                ["-c", _SCRIPT, "bash", str(port), f"{timeout:g}", wired, *hosts],
                options=[*_OPTIONS, f"--network={network}"],
                timeout=START_SECONDS,
                check=False,
            )
        except LabctlError as broken:
            raise self._did_not_run(", ".join(hosts), broken.why or broken.what) from broken

    def _refuse_names(self, host: str, target: str) -> None:
        try:
            IPv4Address(host)
        except AddressValueError as name:
            raise ProbeDidNotRun(f"{self} does not call {target}", why=f"{host} is no IPv4 address") from name

    def _did_not_run(self, target: str, why: str) -> ProbeDidNotRun:
        return ProbeDidNotRun(f"{self} could not try {target}", why=why)


def _line(text: str) -> tuple[str, tuple[int, str]]:
    """A line of the script's: the host, the exit code of the call, and what it said."""
    host, code, said = text.split(" ")
    return host, (int(code), base64.b64decode(said).decode("utf-8", "replace"))
