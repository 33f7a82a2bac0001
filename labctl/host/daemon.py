"""The docker daemon, where labctl has to start it: on a machine without systemd, or with it stopped.

What labctl started it records (process id and start time, so that a reused id is not mistaken),
and only that daemon it stops again.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from labctl import files, paths, process
from labctl.errors import CleanupIncomplete, DockerUnreachable, LabctlError
from labctl.host.machine import Machine
from labctl.progress import Progress
from labctl.tools.docker import Docker
from labctl.waiting import Hopeless, NotYet, until

PID_FILE = Path("/var/run/docker.pid")
ADMIN_DIRECTORIES = (Path("/usr/sbin"), Path("/usr/local/sbin"))
START_SECONDS = 60.0
"""A daemon with nothing to restore answers after 1-3 s, on a busy machine after 10."""
STOP_SECONDS = 60.0
"""It gives its containers 15 s to leave before it leaves itself."""
SYSTEMCTL_SECONDS = 120.0


@dataclass(frozen=True)
class DaemonRecord:
    """A daemon that labctl started; ``start_time`` in clock ticks since boot."""

    pid: int
    start_time: int


def record_file() -> Path:
    """Where the record lies; no cluster can have this directory's name."""
    return paths.state_root() / ".host" / "dockerd.json"


def log_file() -> Path:
    """What the daemon that labctl started has to say."""
    return paths.state_root() / ".host" / "dockerd.log"


def recorded(machine: Machine) -> DaemonRecord | None:
    """The daemon that labctl started, if it still runs."""
    try:
        fields = json.loads(record_file().read_text())
        record = DaemonRecord(int(fields["pid"]), int(fields["start_time"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if _runs(record, machine) else None


def stale_pid(machine: Machine) -> int | None:
    """The process id in docker's pid file when no docker daemon runs under it, else None."""
    pid = machine.number(str(PID_FILE))
    return None if pid is None or machine.command(pid) == "dockerd" else pid


def program() -> Path | None:
    """The dockerd of this machine, also in the administrators' directories that a user's PATH may lack."""
    candidates = (directory / "dockerd" for directory in ADMIN_DIRECTORIES)
    return process.which("dockerd") or next((path for path in candidates if path.exists()), None)


def start(docker: Docker, machine: Machine, progress: Progress) -> None:
    """Start the daemon through systemd where it is process 1, else detached, and wait until it answers.

    Raises `DockerUnreachable` with the daemon's last words when it leaves at once or never answers.
    """
    if machine.has_systemd():
        with progress.step("Start docker through systemd"):
            process.run(["systemctl", "start", "docker"], timeout=SYSTEMCTL_SECONDS)
            _wait(docker, runs=lambda: True, last_words=lambda: "see: journalctl --unit=docker")
        return
    with progress.step("Start docker") as step:
        if stale_pid(machine) is not None:
            PID_FILE.unlink(missing_ok=True)
            step.note("removed the pid file of a daemon that was killed")
        record = _start_detached(machine)
        _wait(docker, runs=lambda: _runs(record, machine), last_words=_last_words)
        step.result(f"process {record.pid}, log {log_file()}")


def reload(machine: Machine) -> bool:
    """Tell the running daemon to read daemon.json again; False when it is not a process of this machine.

    Runtimes are among what it re-reads; containers go on running.
    """
    pid = machine.number(str(PID_FILE))
    if pid is None or machine.command(pid) != "dockerd":
        return False
    os.kill(pid, signal.SIGHUP)
    return True


def release(machine: Machine | None = None, progress: Progress | None = None) -> int | None:
    """Stop the daemon that labctl started, its containers and its containerd, and wait until all are gone.

    Returns its process id, or None when labctl started none or it is gone already. Raises
    `CleanupIncomplete` when it does not leave.
    """
    machine = machine or Machine()
    record = recorded(machine)
    if record is None:
        record_file().unlink(missing_ok=True)
        return None
    family = _family(record.pid, machine)
    if progress:
        progress.say(f"stopping the docker daemon that labctl started (process {record.pid})")
    _signal(record.pid, signal.SIGTERM)
    try:
        until(lambda: _gone(record, machine), what="docker daemon stopped", within=STOP_SECONDS, every=0.2)
    except LabctlError as stays:
        raise CleanupIncomplete(
            "the docker daemon does not stop",
            leftovers=[f"dockerd (process {record.pid})"],
            why=str(stays),
            next_step=f"kill -9 {record.pid}",
        ) from stays
    # A daemon ends its own containerd before itself; one that it found running it may leave behind.
    for other in filter(lambda one: _runs(one, machine), family):
        _signal(other.pid, signal.SIGTERM)
    until(lambda: _all_gone(family, machine), what="containerd stopped", within=STOP_SECONDS, every=0.2)
    record_file().unlink(missing_ok=True)
    return record.pid


def _start_detached(machine: Machine) -> DaemonRecord:
    log_file().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    pid = process.start_daemon([str(program() or "dockerd")], log=log_file())
    record = DaemonRecord(pid, machine.start_time(pid) or 0)
    files.write(record_file(), json.dumps(asdict(record)))
    return record


def _wait(docker: Docker, runs: Callable[[], bool], last_words: Callable[[], str]) -> None:
    def answers() -> None:
        try:
            docker.version()
        except DockerUnreachable as error:
            if not runs():
                raise Hopeless("the daemon has ended") from error
            raise NotYet(error.why) from error

    def failed(reason: str) -> LabctlError:
        return DockerUnreachable("the docker daemon does not start", why=reason, details=last_words())

    until(answers, what="docker answers", within=START_SECONDS, hopeless=failed)


def _last_words() -> str:
    with contextlib.suppress(OSError):
        return "\n".join(log_file().read_text(errors="replace").splitlines()[-20:])
    return ""


def _runs(record: DaemonRecord, machine: Machine) -> bool:
    return machine.alive(record.pid) and machine.start_time(record.pid) == record.start_time


def _gone(record: DaemonRecord, machine: Machine) -> None:
    # Our own child stays as a zombie until it is collected; alive() does not count it.
    if _runs(record, machine):
        raise NotYet(f"process {record.pid} still runs")


def _all_gone(records: list[DaemonRecord], machine: Machine) -> None:
    for record in records:
        _gone(record, machine)


def _family(pid: int, machine: Machine) -> list[DaemonRecord]:
    """The containerd processes that the daemon started."""
    children = [one for one in machine.processes() if machine.parent(one) == pid]
    return [
        DaemonRecord(child, machine.start_time(child) or 0)
        for child in children
        if machine.command(child).startswith("containerd")
    ]


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
