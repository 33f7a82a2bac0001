"""Facts about this machine, read from its files.

This module exists as the seam of the checks: a test gives it another root directory. It only
reads, judges nothing, and knows nothing of docker. On a system that is not Linux most facts
are None: the checks then say that they have not looked.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import struct
import sys
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address
from pathlib import Path

CAP_SYS_RESOURCE = 24
"""The bit of that capability in the kernel's masks (linux/capability.h)."""


@dataclass(frozen=True)
class Listener:
    """A socket of this machine that listens (TCP) or is bound (UDP). ``inode`` identifies it in /proc."""

    address: str
    port: int
    protocol: str
    inode: str


@dataclass(frozen=True)
class Route:
    """An entry of the IPv4 routing table; default routes are left out."""

    interface: str
    network: IPv4Network


class Machine:
    """This machine, or one that a test has laid out under ``root``."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def read(self, path: str) -> str | None:
        """The content of a file without surrounding space, None when it cannot be read."""
        try:
            return (self.root / path.lstrip("/")).read_text(errors="replace").strip()
        except OSError:
            return None

    def number(self, path: str) -> int | None:
        """The same as an integer."""
        text = self.read(path)
        return int(text) if text and text.lstrip("-").isdigit() else None

    # --- what it is

    @property
    def is_linux(self) -> bool:
        """Whether the facts of /proc can be had."""
        return sys.platform == "linux"

    @property
    def is_root(self) -> bool:
        """Whether we may change the machine."""
        return os.geteuid() == 0

    def distribution(self) -> tuple[str, ...]:
        """ID and ID_LIKE of os-release, such as ``("ubuntu", "debian")``; empty when unknown."""
        fields = dict(
            line.partition("=")[::2]
            for line in (self.read("/etc/os-release") or "").splitlines()
            if "=" in line
        )
        return tuple(f"{fields.get('ID', '')} {fields.get('ID_LIKE', '')}".replace('"', "").split())

    def has_systemd(self) -> bool:
        """Whether process 1 is systemd."""
        return self.read("/proc/1/comm") == "systemd"

    def bounding_set_has(self, capability: int) -> bool | None:
        """Whether a capability can be had here at all; None when unknown."""
        for line in (self.read("/proc/self/status") or "").splitlines():
            if line.startswith("CapBnd:"):
                return bool(int(line.split()[1], 16) >> capability & 1)
        return None

    def cgroup_version(self) -> int | None:
        """2 for the unified hierarchy alone, 1 when controllers have their own, None for neither."""
        if (self.root / "sys/fs/cgroup/cgroup.controllers").exists():
            return 2
        return 1 if (self.root / "sys/fs/cgroup/memory").exists() else None

    def kernel_has(self, module: str) -> bool:
        """Whether the kernel has a module: it is loaded or built in, or can be loaded by name."""
        if (self.root / "sys/module" / module).exists():
            return True
        release = self.read("/proc/sys/kernel/osrelease") or ""
        lists = (f"/lib/modules/{release}/{name}" for name in ("modules.builtin", "modules.dep"))
        file = re.compile(rf"(?m)^(?:[^:\n]*/)?{re.escape(module)}\.ko\b")
        return any(file.search(self.read(path) or "") for path in lists)

    # --- what it has

    def cores(self) -> int:
        """Processors that this process may use."""
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1

    def memory_available(self) -> int | None:
        """Bytes that new programs may take: the kernel's estimate, or what a cgroup limit leaves."""
        for line in (self.read("/proc/meminfo") or "").splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
                left = self._cgroup_memory_left()
                return free if left is None else min(free, left)
        return None

    def _cgroup_memory_left(self) -> int | None:
        for limit, used in (
            ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
        ):
            most, taken = self.number(limit), self.number(used)
            if most is not None and taken is not None:
                return max(0, most - taken)
        return None

    def disk_free(self, path: Path) -> tuple[int, int] | None:
        """Free and total bytes of the file system that holds ``path`` or its nearest existing parent."""
        nearest = next((one for one in (path, *path.parents) if one.exists()), None)
        if nearest is None:
            return None
        usage = shutil.disk_usage(nearest)
        return usage.free, usage.total

    # --- its network

    def routes(self) -> list[Route]:
        """The IPv4 routes except the default ones."""
        found = []
        for line in (self.read("/proc/net/route") or "").splitlines()[1:]:
            fields = line.split()
            if len(fields) > 7 and fields[7] != "00000000":
                prefix = int(fields[7], 16).bit_count()
                found.append(Route(fields[0], IPv4Network(f"{_ip4(fields[1])}/{prefix}", strict=False)))
        return found

    def listeners(self) -> list[Listener]:
        """The TCP sockets that listen and the UDP sockets that are bound."""
        found = []
        for protocol, listening in (("tcp", "0A"), ("udp", "07")):
            for table in (protocol, f"{protocol}6"):
                for line in (self.read(f"/proc/net/{table}") or "").splitlines()[1:]:
                    fields = line.split()
                    if len(fields) > 9 and fields[3] == listening:
                        address, _, port = fields[1].partition(":")
                        found.append(Listener(_ip(address), int(port, 16), protocol, fields[9]))
        return found

    def owner(self, inode: str) -> str:
        """The program that holds a socket, as ``name (pid 12)``; empty when that is another user's secret."""
        wanted = f"socket:[{inode}]"
        for process in self.processes():
            try:
                held = any(
                    str(link.readlink()) == wanted for link in (self.root / f"proc/{process}/fd").iterdir()
                )
            except OSError:
                continue
            if held:
                return f"{self.command(process)} (pid {process})"
        return ""

    # --- its processes

    def processes(self) -> list[int]:
        """The ids of all processes."""
        return [int(entry.name) for entry in (self.root / "proc").iterdir() if entry.name.isdigit()]

    def command(self, pid: int) -> str:
        """The name of a process, empty when there is none."""
        return self.read(f"/proc/{pid}/comm") or ""

    def start_time(self, pid: int) -> int | None:
        """When a process started, in clock ticks since boot: with the id, it names a process for good."""
        fields = self._stat(pid)
        return int(fields[19]) if fields else None

    def parent(self, pid: int) -> int | None:
        """The id of a process's parent."""
        fields = self._stat(pid)
        return int(fields[1]) if fields else None

    def alive(self, pid: int) -> bool:
        """Whether a process runs (one that has ended and is not yet collected does not)."""
        fields = self._stat(pid)
        return bool(fields) and fields[0] not in {"Z", "X"}

    def _stat(self, pid: int) -> list[str]:
        """The fields of /proc/PID/stat behind the name, which may itself hold spaces and brackets."""
        return (self.read(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()


def _ip4(word: str) -> str:
    return socket.inet_ntoa(struct.pack("<I", int(word, 16)))


def _ip(word: str) -> str:
    if len(word) == 8:
        return _ip4(word)
    words = [int(word[i : i + 8], 16) for i in range(0, 32, 8)]
    address = IPv6Address(struct.pack("<4I", *words))
    return str(address.ipv4_mapped or address)
