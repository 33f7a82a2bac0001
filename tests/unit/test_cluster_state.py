"""Journal, files and locks: whatever happens to them, a cluster can still be deleted (F11, F14, F15)."""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from labctl import files, paths
from labctl.cluster import journal, lock, status, teardown
from labctl.cluster.journal import Journal
from labctl.cluster.spec import ClusterSpec
from labctl.errors import Conflict, StateUnusable, WriteFailed
from labctl.progress import Quiet
from tests.unit.fakes.fleet import Fleet

SPEC = ClusterSpec(name="c", workers=3)
ONE = Journal(
    "c", "0wner", "nodes", SPEC, 12, "labctl up c", "2026-01-01T00:00:00+00:00", ("id",), {"doctor": 1.5}
)


def test_a_journal_comes_back_as_it_was_written_and_is_private() -> None:
    journal.write(ONE)
    assert journal.read("c") == ONE
    assert journal.path("c").stat().st_mode & 0o777 == 0o600
    assert journal.path("c").parent.stat().st_mode & 0o777 == 0o700
    assert not list(journal.path("c").parent.glob("*.tmp"))


def test_no_journal_is_none() -> None:
    assert journal.read("c") is None


def corrupt(text: str) -> None:
    journal.write(ONE)
    journal.path("c").write_text(text)


def assert_set_aside(text: str) -> None:
    kept = journal.path("c").with_name("journal.json.corrupt")
    assert journal.read("c") is None
    assert not journal.path("c").exists()
    assert kept.read_text() == text


def test_a_journal_cut_anywhere_is_set_aside() -> None:
    journal.write(ONE)
    whole = journal.path("c").read_text()
    for cut in range(0, len(whole) - 2, 64):
        corrupt(whole[:cut])
        assert_set_aside(whole[:cut])


@pytest.mark.parametrize(
    "key", ["name", "owner", "phase", "spec", "pid", "command", "started", "containers", "seconds"]
)
@pytest.mark.parametrize("value", [None, [], {}, 1.5, "x", [1], {"a": "b"}])
def test_a_journal_with_wrong_types_is_never_believed(key: str, value: Any) -> None:
    journal.write(ONE)
    data = json.loads(journal.path("c").read_text())
    original = data[key]
    data[key] = value
    corrupt(json.dumps(data))
    seen = journal.read("c")
    assert seen is None or type(value) is type(original) or value in ([], {}), (
        "a value of another type was taken"
    )


def test_a_directory_in_the_journal_s_place_is_set_aside() -> None:
    journal.path("c").mkdir(parents=True)
    assert journal.read("c") is None
    assert journal.path("c").with_name("journal.json.corrupt").is_dir()
    journal.write(ONE)
    assert journal.read("c") == ONE


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_journal_that_may_not_be_read_is_set_aside() -> None:
    journal.write(ONE)
    journal.path("c").chmod(0)
    assert journal.read("c") is None


def test_a_journal_of_a_newer_labctl_is_refused_and_down_works_all_the_same() -> None:
    corrupt(json.dumps({"schema": journal.SCHEMA + 1}))
    with pytest.raises(StateUnusable) as caught:
        journal.read("c")
    assert caught.value.exit_code == 7
    assert journal.path("c").exists()
    docker = Fleet()
    docker.cluster(SPEC)
    assert len(teardown.down("c", Quiet(), docker=docker).containers) == 4
    assert not docker.there
    assert not paths.cluster_state("c").exists()


def test_a_journal_of_a_newer_labctl_hides_no_other_cluster_in_the_list() -> None:
    corrupt(json.dumps({"schema": journal.SCHEMA + 1}))
    docker = Fleet()
    docker.cluster(SPEC)
    docker.cluster(ClusterSpec(name="other"))
    assert [(one.name, one.state, one.running) for one in status.every(docker)] == [
        ("c", "unusable (journal of a newer labctl)", 4),
        ("other", "running", 3),
    ]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_a_failed_write_names_the_path_and_leaves_the_old_file(
    number: int, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.write(ONE)
    before = journal.path("c").read_bytes()

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        if call == "write":
            patch.setattr(files, "_write_through", lambda path, *_: (path.write_bytes(b"{"), refuse()))
        else:
            patch.setattr(os, call, refuse)
        with pytest.raises(WriteFailed) as caught:
            journal.write(ONE.at("proof"))
    assert str(journal.path("c")) in caught.value.what
    assert os.strerror(number) in caught.value.why
    assert caught.value.exit_code == 4
    assert journal.path("c").read_bytes() == before
    assert not list(journal.path("c").parent.glob(".*.tmp"))


def test_down_works_when_no_lock_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    docker = Fleet()
    docker.cluster(SPEC)

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "private_directory", full)
    teardown.down("c", Quiet(), docker=docker)
    assert not docker.there


# --- locks

HOLDER = """
import sys, time
from labctl.cluster import lock
sys.argv = ["labctl", "up", "c"]
with lock.cluster("c"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def holder() -> Any:
    """Another process that holds the lock until its input ends."""
    import subprocess

    child = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout and child.stdout.readline() == b"held\n"
    return child


def test_the_second_of_one_name_learns_at_once_who_is_first() -> None:
    child = holder()
    try:
        assert lock.held("c")
        started = time.monotonic()
        with pytest.raises(Conflict) as caught, lock.cluster("c"):
            pass
        assert time.monotonic() - started < 2
        assert caught.value.exit_code == 6
        assert str(child.pid) in caught.value.why
        assert "labctl up c" in caught.value.why
        with lock.cluster("another"):
            pass
    finally:
        child.communicate()


def test_a_holder_may_say_who_it_is_a_moment_after_it_has_the_lock(tmp_path: Path) -> None:
    place = paths.state_root() / ".locks" / "c.lock"
    files.write(place, "")
    later = threading.Timer(0.2, files.write, (place, '{"pid": 12, "command": "labctl up c"}'))
    later.start()
    assert lock.holder("c") == "process 12: labctl up c"
    later.join()
    assert lock.holder("nobody") == "its process is unknown"


def test_a_killed_holder_holds_nothing() -> None:
    child = holder()
    child.kill()
    child.communicate()
    assert not lock.held("c")
    with lock.cluster("c"):
        assert lock.held("c")


def test_locks_leave_no_files() -> None:
    with lock.cluster("c"), lock.everything():
        assert list((paths.state_root() / ".locks").iterdir())
    assert not (paths.state_root() / ".locks").exists()


@pytest.mark.parametrize("late", ["mkdir", "open"])
def test_a_lock_directory_that_its_last_user_removes_meanwhile_is_made_again(
    late: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = paths.state_root() / ".locks"
    made, opened, left = files.private_directory, os.open, [1, 1]

    def directory(path: Path) -> Path:
        if late == "mkdir" and left and left.pop():
            raise FileExistsError(errno.EEXIST, "File exists", str(path))
        return made(path)

    def open_late(path: Any, *of: Any, **more: Any) -> int:
        if late == "open" and Path(path).parent == where and left and left.pop():
            where.rmdir()
        return opened(path, *of, **more)

    monkeypatch.setattr(files, "private_directory", directory)
    monkeypatch.setattr(os, "open", open_late)
    with lock.cluster("c"):
        assert not left
        assert lock.held("c")


def test_a_file_in_the_place_of_the_lock_directory_is_named() -> None:
    paths.state_root().mkdir(parents=True, exist_ok=True)
    (paths.state_root() / ".locks").write_text("")
    with pytest.raises(WriteFailed) as caught, lock.cluster("c"):
        pass
    assert "c.lock" in caught.value.what


def test_the_command_line_is_shown_as_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/x/labctl/__main__.py", "up", "a b"])
    assert lock.command_line() == "labctl up 'a b'"
