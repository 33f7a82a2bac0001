"""Whole files: who may read them, and what a refused write leaves."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from labctl import files
from labctl.errors import WriteFailed


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_kept_about_a_cluster_is_private_with_its_directory(tmp_path: Path) -> None:
    place = tmp_path / "state" / "kubeconfig"
    files.write(place, "secret")
    assert (permissions(place), permissions(place.parent)) == (0o600, 0o700)


def test_a_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        files.write(tmp_path / "d" / "f", "x")
    finally:
        os.umask(old)
    assert (permissions(tmp_path / "d" / "f"), permissions(tmp_path / "d")) == (0o600, 0o700)


def test_what_others_shall_read_leaves_their_directory_alone(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o775)
    files.install(shared / "program", b"#!/bin/sh\n", mode=0o755, next_step="run as root")
    assert (permissions(shared / "program"), permissions(shared)) == (0o755, 0o775)


def test_what_is_installed_can_be_read_whatever_the_umask_and_a_report_follows_it(tmp_path: Path) -> None:
    made = tmp_path / "etc" / "docker" / "daemon.json"
    old = os.umask(0o077)
    try:
        files.install(made, "{}", mode=0o644, next_step="run as root")
        files.write(tmp_path / "reports" / "r.xml", "x", mode=0o666)
    finally:
        os.umask(old)
    assert [permissions(one) for one in (made, *made.parents[:2])] == [0o644, 0o755, 0o755]
    assert permissions(tmp_path / "reports" / "r.xml") == 0o600


def test_a_former_file_is_replaced_with_the_new_mode(tmp_path: Path) -> None:
    place = tmp_path / "kubeconfig"
    place.write_text("old")
    place.chmod(0o644)
    files.write(place, "new")
    assert (place.read_text(), permissions(place)) == ("new", 0o600)


def test_a_refused_write_says_what_to_do_and_leaves_no_trace(tmp_path: Path) -> None:
    place = tmp_path / "reports" / "taken"
    place.mkdir(parents=True)
    (place / "by").write_text("something else")
    with pytest.raises(WriteFailed) as refused:
        files.write(place, "x", mode=0o644, next_step="name another file")
    assert str(place) in refused.value.what
    assert refused.value.next_step == "name another file"
    assert [one.name for one in place.parent.iterdir()] == ["taken"]
