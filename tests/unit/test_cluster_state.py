"""Journal and files: whatever happens to them, a cluster can still be deleted (F11, F14, F15)."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from labctl import files, paths
from labctl.cluster import journal, lockfiles, status, teardown
from labctl.cluster.journal import Journal
from labctl.cluster.spec import ClusterSpec
from labctl.errors import StateUnusable, WriteFailed
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
    """By the one who writes: reading leaves it where it is."""
    kept = journal.path("c").with_name("journal.json.corrupt")
    assert journal.read("c") is None
    assert journal.path("c").read_text() == text
    journal.write(ONE)
    assert journal.read("c") == ONE
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
    journal.write(ONE)
    assert journal.path("c").with_name("journal.json.corrupt").is_dir()
    assert journal.read("c") == ONE


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EIO, errno.EACCES, errno.ENOMEM])
def test_a_journal_that_cannot_be_read_for_now_is_not_taken_for_corrupt(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.write(ONE)

    def refuse(*_: Any, **__: Any) -> str:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", refuse)
        with pytest.raises(StateUnusable, match=os.strerror(number)):
            journal.read("c")
        docker = Fleet()
        docker.cluster(SPEC)
        assert [one.state for one in status.every(docker)] == ["unusable"]
        journal.write(ONE.at("proof"))
    assert [one.name for one in journal.path("c").parent.iterdir()] == ["journal.json"]
    assert journal.read("c") == ONE.at("proof")


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
        ("c", "unusable", 4),
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


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.ENOLCK])
@pytest.mark.parametrize("call", ["lock_file", "take"])
def test_down_works_when_no_lock_can_be_had(number: int, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = Fleet()
    docker.cluster(SPEC)

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lockfiles, call, full)
    teardown.down("c", Quiet(), docker=docker)
    assert not docker.there
