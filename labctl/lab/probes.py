"""Looking at the data plane: from a pod, from a node, from the machine outside the cluster.

A probe has three outcomes and this module exists to keep them apart: somebody answered (open),
nobody did (blocked), or the probe itself did not run, which is the exception `ProbeDidNotRun`
and never an answer. It knows nothing of labs, checks or what ought to be seen.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from labctl.errors import (
    ApiRefused,
    ApiUnreachable,
    CommandFailed,
    CommandTimedOut,
    DeadlineExceeded,
    NodeDown,
    ProbeDidNotRun,
)
from labctl.kube import ExecResult, Kube
from labctl.process import Completed
from labctl.tools.docker import Docker

CONTAINER = "probe"
"""The container of a probe pod in which programs run, where a pod has several."""

PORT = 8080
"""Where a probe pod answers HTTP."""

WHO = "envvar?var=WHO"
"""The request that a probe pod answers with "POD/NONCE": its name, and the nonce of the run that made it."""

RESOLVE_SECONDS = 50.0
"""A name whose server is silent: Go's resolver asks twice, 5 s each, for each of up to five names of a search list."""

DIAL_SECONDS = 5.0
"""agnhost gives one connection this long (a constant in its source)."""

BATCH = 8
"""Connections per request to a probe pod, so that a dead target costs at most 40 s before we notice."""

NOT_FOUND = 404
BAD_REQUEST = 400
DIG_NO_REPLY = 9
"""dig's exit code when no server answered."""


@dataclass(frozen=True)
class Dialled:
    """What came of a number of fresh connections to one target.

    ``answers`` holds the bodies, ``refusals`` the reasons of the connections that got none. ``unnamed``
    counts answers whose text is unknown: agnhost drops all texts when its last connection fails.
    """

    target: str
    answers: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    unnamed: int = 0

    @property
    def open(self) -> bool:
        """Whether every connection was answered."""
        return bool(self.answers) and not self.refusals

    @property
    def blocked(self) -> bool:
        """Whether not one connection was answered."""
        return not self.answers and not self.unnamed

    @property
    def refused(self) -> bool:
        """Whether every connection was turned away at once, as opposed to running into a time-out."""
        return self.blocked and all("refused" in one for one in self.refusals)

    @property
    def responders(self) -> frozenset[str]:
        """The different bodies: with `WHO`, who answered."""
        return frozenset(self.answers)

    @property
    def answer(self) -> str:
        """The one body of a single connection, or an empty text."""
        return self.answers[0] if self.answers else ""

    def __str__(self) -> str:
        if self.blocked:
            return f"{self.target}: nobody answered ({_shortly(self.refusals)})"
        names = sorted(name or "somebody with an empty answer" for name in self.responders)
        said = f"{self.target}: answered by {', '.join(names) or 'somebody'}"
        return (
            f"{said}; {len(self.refusals)} connection(s) failed ({_shortly(self.refusals)})"
            if self.refusals
            else said
        )


@dataclass(frozen=True)
class DnsAnswer:
    """What a DNS server said: its status word, and each record as (owner, type, value), in order."""

    name: str
    status: str
    records: tuple[tuple[str, str, str], ...] = ()

    def values(self, kind: str) -> tuple[str, ...]:
        """The values of the records of one type, names without their last dot."""
        return tuple(value.rstrip(".") for _, one, value in self.records if one == kind)

    @property
    def cname(self) -> str:
        """The name that the asked name itself stands for, or an empty text."""
        own = self.name.rstrip(".").lower()
        return next(
            (
                v.rstrip(".")
                for n, kind, v in self.records
                if kind == "CNAME" and n.rstrip(".").lower() == own
            ),
            "",
        )

    @property
    def addresses(self) -> frozenset[str]:
        """The IPv4 addresses, wherever the chain of names led."""
        return frozenset(self.values("A"))

    def __str__(self) -> str:
        shown = ", ".join(f"{kind} {value}" for _, kind, value in self.records)
        return f"{self.name}: {self.status}" + (f", {shown}" if shown else ", no record")


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
    ) -> Dialled:
        """Open up to ``tries`` fresh connections from this pod; ends early once one of a batch has failed.

        ``request`` is an HTTP path without its slash, or a command of agnhost's UDP server.
        A name that does not resolve counts as blocked.
        """
        result = self._dial(host, port, 1, request, protocol)
        while result.open and len(result.answers) < tries:
            more = self._dial(host, port, min(BATCH, tries - len(result.answers)), request, protocol)
            result = Dialled(
                result.target,
                result.answers + more.answers,
                result.refusals + more.refusals,
                result.unnamed + more.unnamed,
            )
        return result

    def _dial(self, host: str, port: int, tries: int, request: str, protocol: str) -> Dialled:
        target = f"{protocol}://{host}:{port}/{request}"
        query: dict[str, str | int] = {
            "host": host, "port": port, "request": request, "protocol": protocol, "tries": tries
        }  # fmt: skip
        try:
            patience = 0.0 if _is_address(host) else RESOLVE_SECONDS
            body = self.get("dial", query=query, timeout=tries * DIAL_SECONDS + 10 + patience)
        except _Unresolved as unresolved:
            return Dialled(target, refusals=(str(unresolved),))
        return _dialled(target, tries, body)

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
            if refused.status == NOT_FOUND:
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
            if refused.status == NOT_FOUND:
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


class NodeProbe:
    """One node, entered through its container."""

    def __init__(self, docker: Docker, container: str) -> None:
        self.container = container
        self._docker = docker

    def __str__(self) -> str:
        return f"node {self.container}"

    def run(self, argv: Sequence[str], *, timeout: float = 60.0, stdin: str | None = None) -> Completed:
        """Run a program on the node; any exit code is an answer."""
        try:
            return self._docker.exec(self.container, argv, timeout=timeout, check=False, stdin=stdin)
        except (NodeDown, CommandTimedOut) as broken:
            raise ProbeDidNotRun(
                f"the probe on {self} did not run ({argv[0]})", why=broken.why or broken.what
            ) from broken

    def output(self, argv: Sequence[str], *, timeout: float = 60.0, stdin: str | None = None) -> str:
        """What a program on the node printed; raises `CommandFailed` on a non-zero exit code."""
        done = self.run(argv, timeout=timeout, stdin=stdin)
        if not done.ok:
            raise CommandFailed(done.argv, done.exit_code, done.stdout, done.stderr)
        return done.stdout

    def in_pod_network(self, pod_uid: str, argv: Sequence[str]) -> str:
        """Run a program of the node inside the network namespace of a pod that runs there."""
        sandbox = self.output(
            ["crictl", "pods", "--quiet", "--state", "ready", "--label", f"io.kubernetes.pod.uid={pod_uid}"]
        )
        if not sandbox.strip():
            raise ProbeDidNotRun(
                f"no sandbox of pod {pod_uid} on {self}", why="crictl knows none that is ready"
            )
        described = json.loads(self.output(["crictl", "inspectp", sandbox.split()[0]]))
        return self.output(["nsenter", f"--target={described['info']['pid']}", "--net", *argv])

    def mounts(self) -> dict[str, str]:
        """What the node may write to that lies outside it: each path and the directory of the machine behind it."""
        mounts: list[dict[str, Any]] = self._docker.inspect(self.container)[0]["Mounts"]
        return {str(one["Destination"]): str(one["Source"]) for one in mounts if one.get("RW")}

    def mac(self) -> str:
        """The hardware address of the node's interface on the cluster's docker network."""
        networks: dict[str, Any] = self._docker.inspect(self.container)[0]["NetworkSettings"]["Networks"]
        return next((str(one["MacAddress"]) for one in networks.values() if one.get("MacAddress")), "")


@dataclass
class _Unresolved(Exception):  # an answer on its way to becoming a Dialled, never seen outside
    reason: str = field(default="")

    def __str__(self) -> str:
        return self.reason


def parse_dig(name: str, text: str) -> DnsAnswer:
    """The answer in dig's own format; without any header no server answered."""
    header = re.search(r"status: (\w+)", text)
    if not header:
        return DnsAnswer(name, "NO ANSWER")
    records = []
    for line in text.splitlines():
        parts = line.split(None, 4)
        if len(parts) == 5 and not line.startswith(";") and parts[2] == "IN":
            records.append((parts[0], parts[3], parts[4]))
    return DnsAnswer(name, header.group(1), tuple(records))


def _dialled(target: str, tries: int, body: str) -> Dialled:
    try:
        said = json.loads(body)
        answers, refusals = tuple(said.get("responses") or ()), tuple(said.get("errors") or ())
    except (ValueError, AttributeError) as strange:
        raise ProbeDidNotRun(
            f"the probe for {target} gave an answer that makes no sense", why=body[:200]
        ) from strange
    if not answers and not refusals:
        # An empty body is an answer too: agnhost lists no text for it.
        return Dialled(target, answers=("",) * tries)
    return Dialled(target, answers, refusals, unnamed=max(0, tries - len(answers) - len(refusals)))


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


def _shortly(reasons: Sequence[str]) -> str:
    """The different reasons, without the URL that Go puts in front of them."""
    short = dict.fromkeys(re.sub(r'^Get "[^"]*": ', "", one).strip() for one in reasons)
    return "; ".join(short) or "no reason given"
