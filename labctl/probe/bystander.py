"""A caller on the nodes' network that is no node, and that cannot leave this network.

A container of the nodes' own image, beside the nodes on their docker network, whose default route is
taken away before it calls anybody. It asks the network itself who has an address ("who has 10.96.0.1?"), so
an address that nobody there has is one that nobody answers for, and no packet ever goes to a router. Each
call is a container of its own that ends within seconds: nothing of it stays, whatever happens to us.
"""

from __future__ import annotations

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

PREPARED = "labctl: the call is made"
"""Said on stderr before the call: whatever went wrong before that line is no answer."""
NOT_CONNECTED = 7
TIMED_OUT = 124
"""The exit code of coreutils' timeout."""

_CALL = f"""
exec 3<>"/dev/tcp/$1/$2" || exit {NOT_CONNECTED}
cat >&3
exec head -c {wire.MOST_BYTES} <&3
"""
_SCRIPT = f"""
while ip -4 route del default 2>/dev/null; do :; done
test -z "$(ip -4 route show default)" || exit
ip -4 route replace "$1/32" dev eth0 || exit
echo '{PREPARED}' >&2
exec timeout --foreground "$3" bash -c '{_CALL}' bash "$1" "$2"
"""
_OPTIONS = (
    "--rm", "--interactive", f"--label={LABEL}", "--entrypoint=/bin/bash", "--read-only",
    "--cap-drop=ALL", "--cap-add=NET_ADMIN", "--security-opt=no-new-privileges",
)  # fmt: skip


class Bystander:
    """``node`` is the container of a node: its image and its network are taken."""

    def __init__(self, docker: Docker, node: str) -> None:
        self._docker = docker
        self._node = node

    def __str__(self) -> str:
        return "a bystander on the nodes' network"

    def get(self, host: str, port: int, path: str = WHO, *, timeout: float = TIMEOUT_SECONDS) -> Dialled:
        """``GET path`` over one connection; ``host`` is an IPv4 address, asked for on the nodes' network only.

        Raises `ProbeDidNotRun` when the container cannot be started or the call cannot be made.
        """
        target = f"http://{host}:{port}/{path}"
        try:
            IPv4Address(host)
        except AddressValueError as name:
            raise ProbeDidNotRun(f"{self} does not call {target}", why=f"{host} is no IPv4 address") from name
        done = self._run(target, host, port, path, timeout)
        _, made, said = done.stderr.partition(PREPARED)
        if not made or done.exit_code not in {0, NOT_CONNECTED, TIMED_OUT}:
            raise self._did_not_run(target, f"exit code {done.exit_code}: {done.stderr.strip()}")
        if done.exit_code == TIMED_OUT:
            return Dialled(target, refusals=(f"no answer within {timeout:g} s",))
        if done.exit_code == NOT_CONNECTED:
            return Dialled(target, refusals=(said.strip().rpartition(": ")[2].lower(),))
        try:
            return Dialled(target, (wire.body(done.stdout.encode()),))
        except HTTPException as strange:
            why = f"not an HTTP answer: {type(strange).__name__} {strange}"
            return Dialled(target, refusals=(why,), unnamed=1)

    def _run(self, target: str, host: str, port: int, path: str, timeout: float) -> Completed:
        try:
            node: dict[str, Any] = self._docker.inspect(self._node)[0]
            network = next(iter(node["NetworkSettings"]["Networks"]))
            return self._docker.run(
                str(node["Image"]),
                ["-c", _SCRIPT, "bash", host, str(port), f"{timeout:g}"],
                options=[*_OPTIONS, f"--network={network}"],
                timeout=START_SECONDS,
                check=False,
                stdin=wire.request(host, port, path),
            )
        except LabctlError as broken:
            raise self._did_not_run(target, broken.why or broken.what) from broken

    def _did_not_run(self, target: str, why: str) -> ProbeDidNotRun:
        return ProbeDidNotRun(f"{self} could not try {target}", why=why)
