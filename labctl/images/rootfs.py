"""Root file systems from Debian packages, made small.

mmdebstrap resolves, fetches and verifies the packages; what a container never reads is left
out when the archive is rewritten. This module must not know which programs are added later.
"""

from __future__ import annotations

import fnmatch
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from labctl import process
from labctl.errors import BuildFailed, CommandFailed, ToolMissing
from labctl.images.store import key_of

SUITE = "bookworm"
"""Its systemd 252 still runs on cgroup v1; the one of the next release (257) no longer does well."""

MIRROR_VARIABLE = "LABCTL_DEBIAN_MIRROR"
"""Names another mirror than Debian's own, for machines that reach only theirs."""

BUILD_SECONDS = 1800.0


@dataclass(frozen=True)
class RootFs:
    """A root file system. ``installed``: packages are configured (systemd needs it); otherwise they are
    only unpacked, and no script of theirs has run. ``seconds`` as measured on two cores."""

    name: str
    packages: tuple[str, ...]
    installed: bool
    seconds: float

    def key(self) -> str:
        """The hash of what is asked for; Debian's own updates do not change it."""
        return key_of(SUITE, self.name, str(self.installed), *self.packages)


NODE = RootFs(
    "debian-node",
    (
        # systemd and what kubelet, kubeadm and the runtime call
        *("systemd", "dbus", "conntrack", "iptables", "nftables", "ebtables", "ipset", "iproute2", "ethtool"),
        *("util-linux", "mount", "kmod", "libseccomp2", "e2fsprogs", "nfs-common", "socat"),
        # what kind's entry point and a learner at a node's prompt call; pigz unpacks layers quicker
        *("ca-certificates", "curl", "jq", "procps", "pigz"),
    ),
    installed=True,
    seconds=75,
)
_NET = (
    "base-files",
    "libc6",
    "iptables",
    "nftables",
    "conntrack",
    "ipset",
    "kmod",
    "iproute2",
    "busybox-static",
)
NET = RootFs("debian-net", _NET, installed=False, seconds=10)
"""Under kube-proxy and flannel."""
PROBE = RootFs(
    "debian-probe",
    (*_NET, "bash", "bind9-dnsutils", "curl", "iperf", "netcat-openbsd", "socat", "util-linux"),
    installed=False,
    seconds=20,
)
"""Under agnhost; conformance tests call these programs in it. `NET` lies below it, and is part of it."""

ROOT_FILE_SYSTEMS = (NODE, NET, PROBE)

LEFT_OUT = (
    *("dev/*", "proc/*", "sys/*", "run/*", "tmp/*", "boot/*", "media/*"),
    *("usr/share/man/*", "usr/share/info/*", "usr/share/locale/*", "usr/share/lintian/*", "usr/share/bug/*"),
    *("usr/lib/udev/hwdb*", "lib/udev/hwdb*", "usr/share/perl5/debconf/*"),
    *("var/cache/apt/*", "var/cache/debconf/*", "var/cache/ldconfig/*", "var/lib/apt/lists/*"),
    *("var/log/*.log", "var/log/apt/*", "var/log/journal/*"),
    *(
        "var/lib/dpkg/*-old",
        "var/lib/dpkg/info/*",
        "etc/machine-id",
        "etc/hostname",
        "etc/resolv.conf",
        "etc/hosts",
    ),
)
"""Patterns of paths that no container reads, or that docker writes itself. A directory itself stays."""

UNITS_LEFT_OUT = (
    *("etc/systemd/system/*.wants/*", "usr/lib/systemd/system/multi-user.target.wants/*"),
    *("usr/lib/systemd/system/local-fs.target.wants/*", "usr/lib/systemd/system/basic.target.wants/*"),
    "usr/lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service",
    *(
        "usr/lib/systemd/system/sockets.target.wants/*udev*",
        "usr/lib/systemd/system/sockets.target.wants/*initctl*",
    ),
)
"""Units that a node must not start by itself: the same that kind leaves out of its own base image."""


def left_out(path: str) -> bool:
    """Whether a path of a root file system is not copied. Of documentation only the copyrights stay."""
    if path.startswith("usr/share/doc/"):
        inside = path.split("/")[4:]
        return bool(inside) and inside != ["copyright"]
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in (*LEFT_OUT, *UNITS_LEFT_OUT))


def build(root: RootFs, into: Path, *, on_line: Callable[[str], None], cancel: threading.Event) -> None:
    """Make ``into/root.tar``. Raises `BuildFailed`, `ToolMissing`, or `Interrupted` when cancelled."""
    argv = [
        "mmdebstrap",
        f"--variant={'minbase' if root.installed else 'extract'}",
        f"--include={','.join(root.packages)}",
        *(f"--aptopt={line}" for line in _proxies()),
        SUITE,
        str(into / "root.tar"),
    ]
    if mirror := os.environ.get(MIRROR_VARIABLE):
        argv.append(mirror)
    try:
        process.run(
            argv,
            timeout=BUILD_SECONDS,
            env={**os.environ, "SOURCE_DATE_EPOCH": "0", "LC_ALL": "C.UTF-8"},
            on_line=on_line,
            cancel=cancel,
        )
    except ToolMissing as missing:
        raise ToolMissing(
            "mmdebstrap was not found", why=missing.why, next_step="run `labctl host prepare`"
        ) from missing
    except CommandFailed as failed:
        said = [line for line in failed.stderr.splitlines() if line.startswith("E:")]
        raise BuildFailed(
            f"the root file system {root.name} could not be made from Debian packages",
            why=said[0] if said else failed.why,
            next_step=f"see that a Debian mirror answers; {MIRROR_VARIABLE} names another one",
            details=f"{failed.what}\n{failed.details}",
        ) from failed


def _proxies() -> list[str]:
    """How this machine's apt reaches its mirrors; mmdebstrap does not look by itself."""
    try:
        said = process.run(["apt-config", "dump", "Acquire"], timeout=30.0, check=False).stdout
    except ToolMissing:
        return []
    wanted = ("Acquire::http::Proxy ", "Acquire::https::Proxy ")
    return [line for line in said.splitlines() if line.startswith(wanted)]
