"""The directories in which the Kubernetes client keeps its keys: one of each process, and gone with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from labctl import paths
from labctl.clientkeys import _remove, directory


@pytest.mark.parametrize("late", ["look", "make"])
def test_the_directory_of_the_keys_is_made_again_when_the_last_process_just_removed_it(
    late: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = paths.state_root() / ".client-keys"
    meanwhile, left = {"look": "iterdir", "make": "mkdir"}[late], [1]
    plain = getattr(Path, meanwhile)

    def call(path: Path, *of: Any, **more: Any) -> Any:
        if left and root in (path, path.parent) and root.is_dir():
            left.pop()
            root.rmdir()
        return plain(path, *of, **more)

    monkeypatch.setattr(Path, meanwhile, call)
    ours = directory()
    assert ours.parent == root
    assert not left
    assert ours.is_dir()
    assert root.stat().st_mode & 0o777 == 0o700


def test_keys_in_use_by_a_process_that_is_not_to_be_seen_from_here_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a container that shares the home directory: its pid is nobody's here, or a stranger's."""
    code = "from labctl.clientkeys import directory\nprint(directory(), flush=True)\ninput()\n"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        there = Path(other.stdout.readline().strip())
        exists = Path.exists
        monkeypatch.setattr(Path, "exists", lambda path: path.parts[1] != "proc" and exists(path))
        mine = directory()
        assert there.is_dir()
        assert mine != there
        other.kill()
        other.wait()
        assert directory() == mine
        assert not there.is_dir()


def test_the_last_process_takes_the_directory_of_the_keys_away() -> None:
    root = paths.state_root() / ".client-keys"
    first, second = root / "1", root / "2"
    for one in (first, second):
        one.mkdir(parents=True)
    _remove(first)
    assert second.is_dir()
    _remove(second)
    assert not root.exists()
