"""A machine laid out as files: what the checks of the doctor read, in a directory of a test."""

from __future__ import annotations

from pathlib import Path

from labctl.host.machine import Machine

GIB = 1024 * 1024  # in KiB, as /proc/meminfo counts


class FakeMachine(Machine):
    """An ordinary Debian machine with 16 GiB, two cores, generous limits; a test makes it worse."""

    root_user = True
    disk = (100 * 1024**3, 200 * 1024**3)
    processors = 2

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.put("/etc/os-release", 'ID=debian\nVERSION_ID="12"\n')
        self.put("/etc/resolv.conf", "nameserver 192.0.2.53\n")
        self.put("/proc/1/comm", "systemd\n")
        self.put("/proc/self/status", "Name:\tx\nCapBnd:\t000001ffffffffff\n")
        self.put("/proc/meminfo", f"MemTotal: {16 * GIB} kB\nMemAvailable: {16 * GIB} kB\n")
        self.put("/proc/sys/fs/inotify/max_user_instances", "2048\n")
        self.put("/proc/sys/fs/inotify/max_user_watches", "1048576\n")
        self.put("/proc/net/route", "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n")
        self.put("/sys/fs/cgroup/cgroup.controllers", "cpu memory\n")

    def put(self, path: str, text: str) -> Path:
        """Write a file of the machine."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def without_sys_resource(self) -> None:
        """Take CAP_SYS_RESOURCE out of the bounding set."""
        self.put("/proc/self/status", "Name:\tx\nCapBnd:\t000001fffeffffff\n")

    @property
    def is_linux(self) -> bool:
        return True

    @property
    def is_root(self) -> bool:
        return self.root_user

    def cores(self) -> int:
        return self.processors

    def disk_free(self, path: Path) -> tuple[int, int] | None:
        return self.disk
