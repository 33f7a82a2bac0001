"""Looking at the data plane from a pod: calls, names, files, programs.

A probe has three outcomes and this module exists to keep them apart: somebody answered (open),
nobody did (blocked), or the probe itself did not run, which is the exception `ProbeDidNotRun`
and never an answer. It knows nothing of labs, checks or what ought to be seen.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from labctl.errors import ApiRefused, ApiUnreachable, DeadlineExceeded, ProbeDidNotRun
from labctl.kube import ExecResult, Kube
from labctl.probe.answers import Dialled, DnsAnswer, parse_dial, parse_dig
from labctl.probe.objects import CONTAINER, PORT, WHO

RESOLVE_SECONDS = 25.0
"""A name whose server is silent: Go's resolver asks twice, 2 s each (see `labctl.probe.objects.DNS_OPTIONS`), for
each of up to five names of a search list."""

DIAL_SECONDS = 5.0
"""agnhost gives one connection this long (a constant in its source)."""

BATCH = 8
"""Connections per request to a probe pod, so that a dead target costs at most 40 s before we notice."""

BAD_REQUEST = 400
DIG_NO_REPLY = 9
"""dig's exit code when no server answered."""


class PodProbe:
    """One probe pod: it dials, resolves names and handles files on our behalf.

    A pod that does not exist is `ApiRefused` with status 404; a pod that exists and
    cannot be asked is `ProbeDidNotRun`.
    """

    def __init__(self, kube: Kube, namespace: str, pod: str, *, port: int = PORT) -> None:
        self.namespace = namespace
        self.pod = pod
        self._kube = kube
        self._port = port

    def __str__(self) -> str:
        return f"pod {self.namespace}/{self.pod}"

    def dial(
        self,
        host: str,
        port: int = PORT,
        *,
        tries: int = 1,
        request: str = WHO,
        protocol: str = "http",
        resolving: float = RESOLVE_SECONDS,
    ) -> Dialled:
        """Open up to ``tries`` fresh connections from this pod; ends early once one of a batch has failed.

        ``request`` is an HTTP path without its slash, or a command of agnhost's UDP server.
        A name that does not resolve counts as blocked; a name server that is silent for ``resolving`` seconds is
        a probe that did not run.
        """
        patience = 0.0 if _is_address(host) else resolving
        result = self._dial(host, port, 1, request, protocol, patience)
        while result.open and len(result.answers) < tries:
            batch = min(BATCH, tries - len(result.answers))
            result += self._dial(host, port, batch, request, protocol, patience)
        return result

    def _dial(
        self, host: str, port: int, tries: int, request: str, protocol: str, patience: float
    ) -> Dialled:
        target = f"{protocol}://{host}:{port}/{request}"
        query: dict[str, str | int] = {
            "host": host, "port": port, "request": request, "protocol": protocol, "tries": tries
        }  # fmt: skip
        try:
            body = self.get("dial", query=query, timeout=tries * DIAL_SECONDS + 10 + patience)
        except _Unresolved as unresolved:
            return Dialled(target, refusals=(str(unresolved),))
        return parse_dial(target, tries, body)

    def seen_as(self, host: str, port: int = PORT) -> str:
        """The source address that the server at ``host`` sees when this pod calls, or an empty text if blocked."""
        return _address(self.dial(host, port, request="clientip").answer)

    def get(self, path: str, *, query: dict[str, str | int] | None = None, timeout: float = 10.0) -> str:
        """What this pod itself answers to ``GET path``, asked through the API server."""
        try:
            return self._kube.pod_get(
                self.namespace, self.pod, port=self._port, path=path, query=query, timeout=timeout
            )
        except ApiRefused as refused:
            if refused.not_found:
                raise
            if refused.status == BAD_REQUEST and "host and/or port param are invalid" in refused.why:
                raise _Unresolved(_last_part(refused.why)) from refused
            raise self._did_not_run(f"GET /{path}", refused) from refused
        except (ApiUnreachable, DeadlineExceeded) as broken:
            raise self._did_not_run(f"GET /{path}", broken) from broken

    def run(self, argv: Sequence[str], *, container: str = CONTAINER, timeout: float = 30.0) -> ExecResult:
        """Run a program in this pod; any exit code is an answer."""
        try:
            return self._kube.exec(self.namespace, self.pod, argv, container=container, timeout=timeout)
        except ApiRefused as refused:
            if refused.not_found:
                raise
            raise self._did_not_run(argv[0], refused) from refused
        except (ApiUnreachable, DeadlineExceeded) as broken:
            raise self._did_not_run(argv[0], broken) from broken

    def output(self, argv: Sequence[str], *, container: str = CONTAINER, timeout: float = 30.0) -> str:
        """What a program printed; a program that fails is a probe that did not run."""
        done = self.run(argv, container=container, timeout=timeout)
        if done.exit_code != 0:
            raise ProbeDidNotRun(
                f"`{argv[0]}` failed in {self}",
                why=f"exit code {done.exit_code}: {done.stderr.strip() or done.stdout.strip()}",
            )
        return done.stdout

    def addresses(self) -> frozenset[str]:
        """The IPv4 addresses that the pod's own network interfaces carry, loopback left out."""
        shown = self.output(["ip", "-4", "-o", "address", "show", "scope", "global"])
        return frozenset(re.findall(r"\binet (\d+\.\d+\.\d+\.\d+)", shown))

    def dns(self, name: str, kind: str = "A", *, server: str = "") -> DnsAnswer:
        """Ask the pod's DNS server (or ``server``) for a full name, without a search list."""
        asked = f"@{server}" if server else ""
        argv = [
            "dig",
            *([asked] if asked else []),
            "+tries=2",
            "+time=2",
            "+noall",
            "+comments",
            "+answer",
            name,
            kind,
        ]
        done = self.run(argv)
        if done.exit_code not in (0, DIG_NO_REPLY):
            raise ProbeDidNotRun(
                f"`dig` failed in {self}",
                why=f"exit code {done.exit_code}: {done.stderr.strip() or done.stdout.strip()}",
            )
        return parse_dig(name, done.stdout)

    def write_random(self, size: int, paths: Sequence[str], *, prefix: str = "") -> str:
        """Write the same ``size`` random bytes (after ``prefix``) to each path; returns their SHA-256."""
        first, *rest = paths
        fill = '{ printf %s "$1"; head -c "$2" /dev/urandom; } > "$3"'
        script = f'{fill} && shift 3 && for p; do cp "$src" "$p"; done && sync'
        self.output(["env", f"src={first}", "sh", "-c", script, "sh", prefix, str(size), first, *rest])
        return self.sha256(first) or ""

    def sha256(self, path: str) -> str | None:
        """The SHA-256 of a file in the pod, or None where no such file is."""
        if not self.exists(path):
            return None
        return self.output(["sha256sum", path]).split()[0]

    def exists(self, path: str) -> bool:
        """Whether the pod sees a file or directory at ``path``."""
        return self.run(["test", "-e", path]).exit_code == 0

    def _did_not_run(self, what: str, cause: Exception) -> ProbeDidNotRun:
        return ProbeDidNotRun(
            f"the probe in {self} did not run ({what})", why=getattr(cause, "why", "") or str(cause),
            next_step=f"look at the pod: `labctl kubectl -- -n {self.namespace} describe pod {self.pod}`",
        )  # fmt: skip


@dataclass
class _Unresolved(Exception):  # an answer on its way to becoming a Dialled, never seen outside
    reason: str = field(default="")

    def __str__(self) -> str:
        return self.reason


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _address(endpoint: str) -> str:
    """The address part of ``10.244.1.5:43210`` or ``[fd00::5]:43210``."""
    return endpoint.strip().rpartition(":")[0].strip("[]")


def _last_part(why: str) -> str:
    return why.partition("are invalid. ")[2].strip() or why
