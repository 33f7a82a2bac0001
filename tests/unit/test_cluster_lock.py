"""Locks between processes, users and threads: they exclude what they should, and looking takes nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import pwd  # noqa: F401  # imported here: a child that has become another user may not read the library
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labctl.cluster import holders, lock, lockfiles
from labctl.errors import Conflict, HostError, LabctlError, UsageError, WriteFailed
from labctl.waiting import Cancelled, cancellable

BESIDE = """
import sys
from labctl.cluster import lock
sys.argv = ["labctl", "up", "c"]
with {hold}:
    print("held", flush=True)
    sys.stdin.readline()
"""

LOOKING = """
import sys, threading
from labctl.cluster import status
from labctl.cluster.spec import ClusterSpec
from tests.unit.fakes.fleet import Fleet
docker = Fleet()
docker.cluster(ClusterSpec(name="c"))
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), ended.set()), daemon=True).start()
looks = 0
print("looking", flush=True)
while not ended.is_set():
    status.every(docker)
    looks += 1
print(looks)
"""

TAKING = """
from labctl.cluster import lock
from labctl.errors import Conflict
print("taking", flush=True)
got = 0
for _ in range(200):
    try:
        with lock.changing("c"):
            got += 1
    except Conflict:
        pass
print(got)
"""

WAITING = """
from labctl.cluster import lock
try:
    lock.labs("c", True, 600.0, lambda _: print("waiting", flush=True))
except KeyboardInterrupt:
    print("interrupted")
"""

ROOT = Path(__file__).parents[2]


def start(code: str, *, state: Path | None = None) -> subprocess.Popen[str]:
    """Python in a process of its own, which says a word when it has begun."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **({"XDG_STATE_HOME": str(state)} if state else {})}
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True
    )
    assert child.stdout
    assert child.stdout.readline()
    return child


@contextlib.contextmanager
def beside(hold: str, *, state: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a lock."""
    child = start(BESIDE.format(hold=hold), state=state)
    try:
        yield child
    finally:
        child.communicate()


# --- looking


def test_looking_refuses_nobody() -> None:
    """`ls` in a loop beside one who takes the lock 400 times: it used to take it itself, to look."""
    from labctl.cluster import teardown
    from labctl.progress import Quiet
    from tests.unit.fakes.fleet import Fleet

    child = start(LOOKING)
    refused = 0
    for _ in range(400):
        try:
            teardown.down("c", Quiet(), docker=Fleet())
        except Conflict:
            refused += 1
    looks = int(child.communicate()[0])
    assert refused == 0
    assert looks > 20, "the two did not run side by side"


def test_looking_makes_no_file(tmp_path: Path) -> None:
    assert lock.changed_by("c") is None
    assert lock.held_by("c") == ()
    assert not lock.instance_is_held("c", "lab12")
    assert not (tmp_path / "locks").exists()


def test_a_name_that_is_none_is_looked_up_nowhere_and_taken_by_nobody(tmp_path: Path) -> None:
    for name in ("../x", "..", "", "a/b", "C", ".c", "c\n"):
        assert lock.changed_by(name) is None
        with pytest.raises(UsageError):
            lock.using(name)
    assert not (tmp_path / "locks").exists()


# --- two ways to hold it


def test_many_use_a_cluster_at_once() -> None:
    with beside('lock.using("c", what="lab 9")'), lock.using("c"), lock.using("c"):
        assert len(lock.held_by("c")) == 3
        assert lock.changed_by("c") is None


@pytest.mark.parametrize(
    ("theirs", "ours", "what"),
    [
        ('lock.changing("c")', lock.using, "another labctl works on cluster c"),
        ('lock.changing("c")', lock.changing, "another labctl works on cluster c"),
        ('lock.using("c", what="lab 9")', lock.changing, "cluster c is in use"),
    ],
)
def test_who_is_refused_reads_at_once_who_holds_it_how_and_since_when(
    theirs: str, ours: Callable[[str], lock.Hold], what: str
) -> None:
    with beside(theirs) as child:
        started = time.monotonic()
        with pytest.raises(Conflict) as caught:
            ours("c")
        assert time.monotonic() - started < 2
        assert (caught.value.exit_code, caught.value.id, caught.value.what) == (6, "conflict", what)
        how = "changing" if "changing" in theirs else "using"
        for words in (str(child.pid), holders.user(), "labctl up c", f"{how} it since 20"):
            assert words in caught.value.why
        with lock.changing("another"):
            pass
    ours("c").release()


def test_two_state_directories_share_the_locks(tmp_path: Path) -> None:
    with beside('lock.changing("c")', state=tmp_path / "elsewhere"), pytest.raises(Conflict):
        lock.changing("c")


def test_a_killed_holder_holds_nothing_and_is_not_named(tmp_path: Path) -> None:
    child = start(BESIDE.format(hold='lock.using("c")'))
    assert lock.held_by("c")
    child.kill()
    child.communicate()
    assert lock.held_by("c") == ()
    with lock.changing("c"):
        left = [one.name for one in lockfiles.place().path.iterdir()]
        assert len(left) == 2, f"the lock and our own record; the killed one's is swept: {left}"


def test_the_lock_is_handed_from_changing_to_using_and_back_without_a_gap() -> None:
    with lock.changing("c") as hold:
        child = start(TAKING)
        while child.poll() is None:
            hold.share()
            hold.alone()
        assert child.communicate()[0] == "0\n"


def test_one_cannot_have_alone_what_others_use_and_keeps_what_he_has() -> None:
    with lock.using("c") as hold:
        with beside('lock.using("c", what="lab 9")') as child:
            with pytest.raises(Conflict, match=r"in use: process \d+") as caught:
                hold.alone()
            assert str(child.pid) in caught.value.why
            assert str(os.getpid()) not in caught.value.why, "oneself is not in one's own way"
        with pytest.raises(Conflict):
            lock.changing("c")
        hold.alone()
        with pytest.raises(Conflict):
            lock.using("c")


def test_any_thread_may_let_go_and_twice_is_no_error() -> None:
    hold = lock.changing("c")
    thread = threading.Thread(target=hold.release)
    thread.start()
    thread.join()
    hold.release()
    lock.changing("c").release()


def test_an_error_within_lets_go() -> None:
    with pytest.raises(ValueError, match="x"), lock.changing("c"):
        raise ValueError("x")
    lock.changing("c").release()


# --- labs


def test_labs_run_side_by_side_and_one_that_takes_something_away_alone() -> None:
    with beside('lock.labs("c", False, 0, what="lab 9")'), lock.labs("c", False, 0) as mine:
        with pytest.raises(Conflict, match="runs alone") as caught:
            lock.labs("c", True, 0)
        assert "lab 9" in caught.value.why
        mine.release()
    with beside('lock.labs("c", True, 0, what="lab 21")'):
        with pytest.raises(Conflict, match="must be alone") as caught:
            lock.labs("c", False, 0.2)
        assert "lab 21" in caught.value.why


def test_one_waits_for_its_turn_and_says_for_whom() -> None:
    with beside('lock.labs("c", True, 0, what="lab 21")') as child:
        said: list[str] = []

        def wait(text: str) -> None:
            said.append(text)
            assert child.stdin
            child.stdin.write("\n")
            child.stdin.flush()

        with lock.labs("c", False, 60.0, wait):
            assert "lab 21" in said[0]


def test_no_new_lab_goes_before_one_that_waits_to_be_alone() -> None:
    first = lock.labs("c", False, 0)
    waiting = threading.Event()
    order: list[str] = []

    def alone() -> None:
        with lock.labs("c", True, 60.0, lambda _: waiting.set()):
            order.append("alone")

    thread = threading.Thread(target=alone)
    thread.start()
    assert waiting.wait(30)
    with pytest.raises(Conflict):
        lock.labs("c", False, 0)
    first.release()
    with lock.labs("c", False, 60.0):
        order.append("new")
    thread.join()
    assert order == ["alone", "new"]


def test_an_interrupt_ends_a_wait() -> None:
    with lock.labs("c", False, 0):
        child = start(WAITING)
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=30)[0] == "interrupted\n"


def test_a_wait_can_be_cancelled_from_another_thread() -> None:
    cancel = threading.Event()
    with lock.labs("c", False, 0), cancellable(cancel), pytest.raises(Cancelled):
        lock.labs("c", True, 600.0, lambda _: cancel.set())


def test_an_instance_is_had_once_and_others_beside_it() -> None:
    with beside('lock.instance("c", "lab12-x7", what="lab 12")') as child:
        assert lock.instance_is_held("c", "lab12-x7")
        with pytest.raises(Conflict, match="lab 12 is another") as caught:
            lock.instance("c", "lab12-x7", what="lab 12")
        assert str(child.pid) in caught.value.why
        for key, name in (("c", "lab12"), ("c", "lab12-x8"), ("d", "lab12-x7")):
            assert not lock.instance_is_held(key, name)
            lock.instance(key, name).release()
        lock.changing("c").release()
    assert not lock.instance_is_held("c", "lab12-x7")


def test_everything_is_waited_for() -> None:
    with lock.everything() as hold:
        threading.Timer(0.2, hold.release).start()
        lock.everything().release()


# --- the files


def test_the_file_is_locked_that_has_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cleaner of old files may remove it between our look and our lock."""
    real, late = lockfiles.lock_file, [1]

    def removed_meanwhile(name: str) -> int:
        descriptor = real(name)
        if late:
            late.pop()
            (lockfiles.place().path / name).unlink()
        return descriptor

    monkeypatch.setattr(lockfiles, "lock_file", removed_meanwhile)
    with lock.changing("c"), pytest.raises(Conflict):
        lock.changing("c")


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    lock.changing("c").release()
    file = lockfiles.place().path / "c"
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WriteFailed):
        lock.changing("c")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EACCES])
def test_a_lock_that_cannot_be_had_is_named(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lockfiles, "lock_file", refuse)
    with pytest.raises(WriteFailed, match=os.strerror(number)):
        lock.using("c")
    if number == errno.EACCES:  # the lock is there, and is somebody's
        with pytest.raises(WriteFailed):
            lock.changing("c", optional=True)
    else:
        lock.changing("c", optional=True).release()


def test_a_record_that_cannot_be_written_costs_only_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lock, "SAY_SECONDS", 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        hold = lock.changing("c")
    with hold:
        assert lock.changed_by("c") == "its process does not say who it is"
        with pytest.raises(Conflict, match="does not say"):
            lock.using("c")


def test_records_of_any_content_are_borne() -> None:
    with lock.using("c"):
        pass
    for number, text in enumerate((b"", b"[]", b'{"pid": "x"}', b"\xff", b"{" * 5000)):
        with lockfiles.directory(make=False) as within:
            assert within is not None
            descriptor = lockfiles.create(within, f"c.{number}")
        os.write(descriptor, text)
        lockfiles.take(descriptor, lockfiles.ALONE, 0)
        assert lock.held_by("c") == ()
        os.close(descriptor)


def test_the_command_line_is_shown_as_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/x/labctl/__main__.py", "up", "a b"])
    assert holders.command_line() == "labctl up 'a b'"


# --- users

GROUP, USER, STRANGER = 54321, 54322, 54323


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory like /run/lock, and a docker socket that a group may open."""
    if os.geteuid() != 0:
        pytest.skip("only root can become two users")
    where = Path(tempfile.mkdtemp())
    where.chmod(0o755)
    shared = where / "lock"
    shared.mkdir()
    shared.chmod(0o1777)
    address = where / "docker.sock"
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as daemon:
        daemon.bind(str(address))
        os.chown(address, 0, GROUP)
        address.chmod(0o660)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{address}")
        monkeypatch.setenv("LABCTL_LOCKS", str(shared))
        old = os.umask(0o077)
        yield shared
        os.umask(old)
    shutil.rmtree(where)


def as_user(uid: int, groups: list[int], act: Callable[[], Any]) -> Any:
    """What ``act`` returns or raises in a process of that user's."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups(groups)
        os.setgid(uid)
        os.setuid(uid)
        try:
            said: Any = act()
        except LabctlError as error:
            said = (error.id, str(error))
        os.write(writing, pickle.dumps(said))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        said = pickle.loads(answer.read())  # our own child's
    os.waitpid(child, 0)
    return said


def held_and_kept() -> str:
    """Take the lock, and let go of it with the process only."""
    lock.changing("c")
    return "held"


@pytest.mark.parametrize("first", [0, USER])
def test_root_and_a_user_of_the_docker_group_share_the_locks(machine: Path, first: int) -> None:
    assert as_user(first, [GROUP], held_and_kept) == "held"
    assert as_user(USER - first, [GROUP], held_and_kept) == "held"
    (directory,) = machine.iterdir()
    assert (directory.stat().st_mode & 0o7777, directory.stat().st_gid) == (0o2770, GROUP)
    with lock.changing("c"):
        kind, said = as_user(USER, [GROUP], held_and_kept)
        assert kind == "conflict"
        assert f"process {os.getpid()} of {holders.user()}" in said
        assert as_user(USER, [GROUP], lambda: lock.changed_by("c"))


def test_root_reads_which_user_holds_a_lock(machine: Path) -> None:
    holding, done = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(done[1])
        os.setgroups([GROUP])
        os.setgid(USER)
        os.setuid(USER)
        lock.using("c", what="lab 9")
        os.write(holding[1], b"1")
        os.read(done[0], 1)
        os._exit(0)
    os.read(holding[0], 1)
    with pytest.raises(Conflict, match=f"process {child} of user {USER}.*lab 9"):
        lock.changing("c")
    for one in (*done, *holding):
        os.close(one)
    os.waitpid(child, 0)


def test_one_who_may_not_open_the_socket_may_not_lock(machine: Path) -> None:
    lock.changing("c").release()
    kind, said = as_user(STRANGER, [], held_and_kept)
    assert kind == "write-failed"
    assert os.strerror(errno.EACCES) in said
    assert as_user(STRANGER, [], lambda: lock.changed_by("c")) is None


@pytest.mark.parametrize("trick", ["directory", "link", "file", "open to all"])
def test_a_stranger_s_directory_is_not_used(machine: Path, trick: str) -> None:
    where = lockfiles.place().path
    if trick == "directory":
        assert as_user(STRANGER, [], lambda: os.mkdir(where, 0o777)) is None
    elif trick == "link":
        assert as_user(STRANGER, [], lambda: os.symlink("/etc", where)) is None
    elif trick == "file":
        assert as_user(STRANGER, [], lambda: where.write_text("")) == 0
    else:
        where.mkdir()
        os.chown(where, 0, GROUP)
        where.chmod(0o2777)
    with pytest.raises(HostError, match="is not labctl's") as caught:
        lock.changing("c", optional=True)
    assert str(where) in caught.value.next_step
    assert lock.changed_by("c") is None
    assert as_user(USER, [GROUP], held_and_kept)[0] == HostError.id
