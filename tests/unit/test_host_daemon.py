"""The docker daemon that labctl starts itself: waited for, recorded, and only it stopped again."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl import process
from labctl.errors import CleanupIncomplete, DockerUnreachable
from labctl.host import daemon
from labctl.host.machine import Machine
from labctl.progress import Quiet
from labctl.tools.docker import Docker
from labctl.waiting import NotYet, until
from tests.unit.conftest import FakeTools
from tests.unit.fakes.machine import FakeMachine

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="a daemon of this machine is a matter of Linux"
)

NO_DAEMON = (
    "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
)


class Box:
    """A docker whose daemon is a fake: it is up while the file ``up`` exists."""

    def __init__(self, tools: FakeTools, home: Path) -> None:
        self.tools = tools
        self.home = home
        self.pid_file = home / "docker.pid"
        self.children: list[int] = []
        tools.sh("docker", f'[ -e {home}/up ] && echo 28.1 && exit 0; echo "{NO_DAEMON}" >&2; exit 1')

    def dockerd(self, on_term: str = "kill $child; rm $home/up; exit 0", start: str = ": > $home/up") -> None:
        """A daemon with a containerd of its own."""
        self.tools.sh("containerd", "while :; do sleep 0.05; done")
        self.tools.sh(
            "dockerd",
            f"home={self.home}; echo $$ > {self.pid_file}; containerd & child=$!; echo $child > $home/child\n"
            f"trap '{on_term}' TERM; echo starting >&2; {start}; while :; do sleep 0.05; done",
        )

    def start(self) -> daemon.DaemonRecord:
        daemon.start(Docker(), Machine(), Quiet())
        record = daemon.recorded(Machine())
        assert record is not None
        return record

    def child(self) -> int:
        return int((self.home / "child").read_text())


@pytest.fixture
def box(fake_tools: FakeTools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    box = Box(fake_tools, tmp_path)
    monkeypatch.setattr(daemon, "PID_FILE", box.pid_file)
    monkeypatch.setattr(Machine, "has_systemd", lambda _: False)
    yield box
    for name in ("docker.pid", "child"):
        if (tmp_path / name).exists():
            pid = int((tmp_path / name).read_text())
            if Machine().command(pid) in {"dockerd", "containerd"}:
                os.kill(pid, signal.SIGKILL)


def test_a_daemon_is_started_waited_for_and_recorded(box: Box) -> None:
    box.dockerd(start="sleep 0.3; : > $home/up")
    record = box.start()
    assert Docker().version() == "28.1"
    assert record.pid == int(box.pid_file.read_text())
    assert "starting" in daemon.log_file().read_text()
    assert daemon.log_file().parent.stat().st_mode & 0o777 == 0o700


def test_release_stops_it_with_its_containerd(box: Box) -> None:
    box.dockerd()
    record = box.start()
    assert daemon.release() == record.pid
    assert not Machine().alive(record.pid)
    assert not Machine().alive(box.child())
    assert not daemon.record_file().exists()
    assert daemon.release() is None


def test_a_containerd_that_stays_behind_is_stopped_too(box: Box) -> None:
    box.dockerd(on_term="exit 0")
    box.start()
    daemon.release()
    assert not Machine().alive(box.child())


def test_release_leaves_a_daemon_alone_that_labctl_did_not_start(box: Box) -> None:
    box.dockerd()
    pid = process.start_daemon(["dockerd"], log=box.home / "log")
    until(lambda: up(box), what="up", within=5, every=0.02)
    assert daemon.release() is None
    assert Machine().alive(pid)


def test_release_does_not_trust_a_reused_process_id(box: Box) -> None:
    box.dockerd()
    record = box.start()
    daemon.record_file().write_text(json.dumps({"pid": record.pid, "start_time": record.start_time - 1}))
    assert daemon.release() is None
    assert Machine().alive(record.pid)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x", "start_time": 1}', '{"pid": 1}'])
def test_a_broken_record_is_no_record(box: Box, text: str) -> None:
    daemon.record_file().parent.mkdir(parents=True)
    daemon.record_file().write_text(text)
    assert daemon.release() is None
    assert not daemon.record_file().exists()


def test_a_daemon_that_does_not_stop_is_a_leftover(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "STOP_SECONDS", 0.3)
    box.dockerd(on_term="")
    record = box.start()
    with pytest.raises(CleanupIncomplete) as caught:
        daemon.release()
    assert caught.value.exit_code == 8
    assert str(record.pid) in caught.value.details
    assert daemon.recorded(Machine()) == record  # so that the next try finds it


def test_a_daemon_that_ends_at_once_is_told_with_its_last_words(box: Box) -> None:
    box.tools.sh("dockerd", "echo 'failed to start daemon: no iptables' >&2; exit 1")
    with pytest.raises(DockerUnreachable) as caught:
        daemon.start(Docker(), Machine(), Quiet())
    assert "no iptables" in caught.value.details


@pytest.mark.parametrize("whose", ["nobody", "somebody else"])
def test_a_stale_pid_file_is_removed_before_the_start(box: Box, whose: str) -> None:
    box.dockerd(start=": > $home/up")
    box.pid_file.write_text("99999999" if whose == "nobody" else str(os.getpid()))
    assert daemon.stale_pid(Machine()) is not None
    box.tools.sh(
        "dockerd", f"[ -e {box.pid_file} ] && exit 1; echo $$ > {box.pid_file}; : > {box.home}/up; sleep 60"
    )
    box.start()
    assert daemon.stale_pid(Machine()) is None


def test_no_pid_file_is_not_stale(box: Box) -> None:
    assert daemon.stale_pid(Machine()) is None


def test_a_running_daemon_is_told_to_read_its_settings(box: Box) -> None:
    listen = f"trap ': > {box.home}/read' HUP; echo $$ > {box.pid_file}; : > {box.home}/up"
    box.tools.sh("dockerd", f"{listen}; while :; do sleep 0.05; done")
    assert daemon.reload(Machine()) is False
    box.start()
    assert daemon.reload(Machine()) is True
    until(lambda: exists(box.home / "read"), what="settings read", within=5, every=0.02)


def test_systemd_starts_it_where_it_is_process_1(fake_tools: FakeTools, tmp_path: Path) -> None:
    fake_tools.sh("systemctl", f": > {tmp_path}/up")
    fake_tools.sh("docker", f"[ -e {tmp_path}/up ] || exit 1; echo 28.1")
    daemon.start(Docker(), FakeMachine(tmp_path / "machine"), Quiet())
    assert fake_tools.calls("systemctl") == [["start", "docker"]]
    assert daemon.recorded(Machine()) is None


def up(box: Box) -> None:
    exists(box.home / "up")


def exists(path: Path) -> None:
    if not path.exists():
        raise NotYet(f"no {path.name}")
