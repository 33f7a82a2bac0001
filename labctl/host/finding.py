"""What a check is asked for and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from labctl.errors import HostError

FindingStatus = Literal["ok", "warn", "fail", "skip"]
"""``skip``: not looked at here, because something it stands on is missing or it has no meaning."""

Source = Literal["auto", "present", "pull", "build"]


@dataclass(frozen=True)
class HostPort:
    """A port of this machine that a cluster wants to listen on."""

    port: int
    address: str = "127.0.0.1"
    protocol: Literal["tcp", "udp"] = "tcp"

    def __str__(self) -> str:
        return f"{self.address}:{self.port}/{self.protocol}"


@dataclass(frozen=True)
class Needs:
    """What the machine must be able to carry. The defaults are one control plane and two workers.

    ``proxy_mode`` is how kube-proxy serves Services, in kind's words.
    ``images`` are names under which the node image may be present: one of them is enough.
    ``replaces`` is the name of a kind cluster that is deleted first, so that its ports are free then.
    ``source`` is how an absent one may be had; ``present`` means that it may not.
    """

    control_planes: int = 1
    workers: int = 2
    ports: tuple[HostPort, ...] = ()
    pod_subnet: str = "10.244.0.0/16"
    service_subnet: str = "10.96.0.0/16"
    proxy_mode: str = "iptables"
    images: tuple[str, ...] = ()
    source: Source = "auto"
    replaces: str = ""

    @property
    def nodes(self) -> int:
        """How many node containers that is."""
        return self.control_planes + self.workers


@dataclass(frozen=True)
class Finding:
    """What one check saw. ``cure`` is one line, empty unless ``status`` is warn or fail.

    ``error`` is the exception class that stands for this failure alone.
    """

    id: str
    title: str
    status: FindingStatus
    seen: str
    cure: str = ""
    error: type[HostError] = HostError

    @property
    def failed(self) -> bool:
        """Whether nothing may be started while this stands."""
        return self.status == "fail"


@dataclass(frozen=True)
class Answer:
    """What a check function returns: a finding that does not know its own name yet."""

    status: FindingStatus
    seen: str
    cure: str = ""
    error: type[HostError] = HostError

    def named(self, check: str, title: str) -> Finding:
        """The finding of the check with that id."""
        return Finding(check, title, self.status, self.seen, self.cure, self.error)


def ok(seen: str) -> Answer:
    """The check holds."""
    return Answer("ok", seen)


def warn(seen: str, cure: str) -> Answer:
    """It will probably work; ``cure`` makes it better."""
    return Answer("warn", seen, cure)


def fail(seen: str, cure: str, error: type[HostError] = HostError) -> Answer:
    """It cannot work before ``cure``."""
    return Answer("fail", seen, cure, error)


def skip(why: str) -> Answer:
    """Not looked at."""
    return Answer("skip", why)
