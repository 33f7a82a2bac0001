"""The runtime without CAP_SYS_RESOURCE: what the wrapper does to bundles, and how docker is told."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl import process
from labctl.errors import HostError, WriteFailed
from labctl.host import runtime
from tests.unit.conftest import FakeTools

PERL = Path("/usr/bin/perl")
needs_perl = pytest.mark.skipif(
    not PERL.exists(), reason="the wrapper is for machines with perl-base (every Debian)"
)

SETS = {
    "bounding": ["CAP_CHOWN", "CAP_SYS_RESOURCE", "CAP_SYS_ADMIN"],
    "effective": ["CAP_SYS_RESOURCE", "CAP_CHOWN"],
    "permitted": ["CAP_CHOWN", "CAP_SYS_RESOURCE"],
    "inheritable": ["CAP_SYS_RESOURCE"],
    "ambient": [],
}
LEFT = {
    "bounding": ["CAP_CHOWN", "CAP_SYS_ADMIN"],
    "effective": ["CAP_CHOWN"],
    "permitted": ["CAP_CHOWN"],
    "inheritable": [],
    "ambient": [],
}
PROCESS = {
    "args": ["sh", "-c", 'echo "capabilities":{"bounding":["CAP_SYS_RESOURCE"]}', "CAP_SYS_RESOURCE"],
    "env": ["WANTED=CAP_SYS_RESOURCE", "CAP_SYS_RESOURCE"],
    "capabilities": SETS,
    "rlimits": [{"type": "RLIMIT_MEMLOCK", "hard": 18446744073709551615, "soft": 18446744073709551615}],
}


@pytest.fixture
def wrapper(tmp_path: Path, fake_tools: FakeTools) -> Path:
    """The wrapper where it may be started, and a runc that only notes its arguments."""
    fake_tools.sh("runc", "exit 5")
    copy = tmp_path / "labctl-runc"
    shutil.copy(runtime.wrapper_file(), copy)
    return copy


def expected(text: str) -> str:
    """``text`` with the capability sets replaced and every other byte as it was."""
    return text.replace(json.dumps(SETS), json.dumps(LEFT)).replace(
        json.dumps(SETS, separators=(",", ":")), json.dumps(LEFT, separators=(",", ":"))
    )


@needs_perl
@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize(
    "option", [["--bundle", "{}"], ["--bundle={}"], ["-b", "{}"], ["-b={}"]], ids=lambda words: words[0]
)
def test_a_bundle_loses_one_capability_and_nothing_else(
    tmp_path: Path, wrapper: Path, fake_tools: FakeTools, option: list[str], compact: bool
) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    config = bundle / "config.json"
    separators = (",", ":") if compact else (", ", ": ")
    text = json.dumps({"ociVersion": "1.0.2", "process": PROCESS, "linux": {"x": 1}}, separators=separators)
    config.write_text(text)
    config.chmod(0o640)
    words = [word.format(bundle) for word in option]
    done = process.run(
        [str(wrapper), "--root", "/r", "--log-format", "json", "create", *words, "id"],
        timeout=10,
        check=False,
    )
    assert done.exit_code == 5, done.stderr
    assert fake_tools.calls("runc") == [["--root", "/r", "--log-format", "json", "create", *words, "id"]]
    assert config.read_text() == expected(text)
    assert expected(text) != text
    assert config.stat().st_mode & 0o777 == 0o640
    assert [one.name for one in bundle.iterdir()] == ["config.json"]


@needs_perl
@pytest.mark.parametrize(
    "option", [["--process", "{}"], ["--process={}"], ["-p", "{}"]], ids=lambda words: words[0]
)
def test_an_exec_loses_it_from_its_process_file(
    tmp_path: Path, wrapper: Path, fake_tools: FakeTools, option: list[str]
) -> None:
    file = tmp_path / "process.json"
    text = json.dumps(PROCESS, separators=(",", ":"))
    file.write_text(text)
    words = [word.format(file) for word in option]
    process.run([str(wrapper), "--root=/r", "exec", *words, "--detach", "id"], timeout=10, check=False)
    assert file.read_text() == expected(text)
    assert fake_tools.calls("runc") == [["--root=/r", "exec", *words, "--detach", "id"]]


@needs_perl
def test_a_bundle_is_the_working_directory_when_none_is_named(tmp_path: Path, wrapper: Path) -> None:
    config = tmp_path / "config.json"
    text = json.dumps({"process": PROCESS})
    config.write_text(text)
    process.run([str(wrapper), "run", "id"], timeout=10, check=False, cwd=tmp_path)
    assert config.read_text() == expected(text)


@needs_perl
@pytest.mark.parametrize(
    "words",
    [
        ["--version"],
        ["kill", "id", "9"],
        ["create", "--bundle", "/nowhere", "id"],
        ["delete", "--force", "id"],
    ],
)
def test_everything_else_goes_to_runc_as_it_is(
    wrapper: Path, fake_tools: FakeTools, words: list[str]
) -> None:
    done = process.run([str(wrapper), *words], timeout=10, check=False)
    assert (done.exit_code, done.stdout, done.stderr) == (5, "", "")
    assert fake_tools.calls("runc") == [words]


@needs_perl
def test_a_command_behind_the_container_is_not_taken_for_an_option(tmp_path: Path, wrapper: Path) -> None:
    file = tmp_path / "innocent.json"
    text = json.dumps(PROCESS)
    file.write_text(text)
    process.run([str(wrapper), "exec", "--", "id", "cp", "-p", str(file)], timeout=10, check=False)
    assert file.read_text() == text


@needs_perl
def test_a_bundle_that_asks_for_nothing_is_not_written(tmp_path: Path, wrapper: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"process":{"capabilities":{"bounding":["CAP_CHOWN"]}}}')
    before = config.stat().st_ino
    process.run([str(wrapper), "create", "--bundle", str(tmp_path), "id"], timeout=10, check=False)
    assert config.stat().st_ino == before


# --- docker's settings


class Settings:
    """A machine with docker's settings in them, laid out under a directory."""

    def __init__(self, root: Path, settings: str | None = None) -> None:
        self.root = root
        self.settings = root / "etc/docker/daemon.json"
        self.copy = root / "etc/docker/daemon.json.before-labctl"
        self.installed = root / "usr/local/sbin/labctl-runc"
        if settings is not None:
            self.settings.parent.mkdir(parents=True)
            self.settings.write_text(settings)


def test_docker_is_told_and_keeps_its_other_settings(tmp_path: Path) -> None:
    text = '{"data-root": "/big", "runtimes": {"nvidia": {"path": "nv"}}, "default-runtime": "nvidia"}'
    docker = Settings(tmp_path, text)
    runtime.install(tmp_path)
    new = json.loads(docker.settings.read_text())
    assert new["data-root"] == "/big"
    assert new["runtimes"] == {
        "nvidia": {"path": "nv"},
        "labctl-runc": {"path": "/usr/local/sbin/labctl-runc"},
    }
    assert new["default-runtime"] == "labctl-runc"
    assert docker.copy.read_text() == text
    assert docker.installed.stat().st_mode & 0o777 == 0o755
    assert runtime.configured(tmp_path)


def test_installing_twice_changes_nothing(tmp_path: Path) -> None:
    docker = Settings(tmp_path)
    assert not runtime.configured(tmp_path)
    runtime.install(tmp_path)
    before = docker.settings.stat().st_ino, docker.settings.read_bytes()
    runtime.install(tmp_path)
    assert (docker.settings.stat().st_ino, docker.settings.read_bytes()) == before
    assert not docker.copy.exists()


def test_the_first_settings_stay_in_the_copy(tmp_path: Path) -> None:
    docker = Settings(tmp_path, '{"debug": true}')
    runtime.install(tmp_path)
    docker.settings.write_text('{"debug": false}')
    runtime.install(tmp_path)
    assert json.loads(docker.copy.read_text()) == {"debug": True}


@pytest.mark.parametrize("text", ["{", "[1]", '{"runtimes": []}'])
def test_settings_that_docker_would_not_read_are_left_alone(tmp_path: Path, text: str) -> None:
    docker = Settings(tmp_path, text)
    with pytest.raises(HostError) as caught:
        runtime.install(tmp_path)
    assert str(docker.settings) in caught.value.what
    assert docker.settings.read_text() == text
    assert not docker.installed.exists()


@pytest.mark.parametrize("ask", [runtime.install, runtime.configured])
@pytest.mark.parametrize("fault", ["forbidden", "not UTF-8", "a directory"])
def test_settings_that_cannot_be_read_are_named_with_a_way_out(
    tmp_path: Path, ask: Callable[[Path], object], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = Settings(tmp_path, "{}")
    if fault == "a directory":
        docker.settings.unlink()
        docker.settings.mkdir()
    elif fault == "not UTF-8":
        docker.settings.write_bytes(b'{"data-root": "/gro\xdf"}')
    else:

        def refuse(*_: object, **__: object) -> str:
            raise PermissionError(errno.EACCES, "Permission denied", str(docker.settings))

        monkeypatch.setattr(Path, "read_text", refuse)  # root, who may run this, reads everything
    with pytest.raises(HostError) as caught:
        ask(tmp_path)
    assert str(docker.settings) in caught.value.what
    assert caught.value.exit_code == 3
    assert ("root" if fault == "forbidden" else "correct") in caught.value.next_step
    assert not docker.installed.exists()


def test_what_docker_reads_can_be_read_whatever_the_umask(tmp_path: Path) -> None:
    docker = Settings(tmp_path, '{"debug": true}')
    old = os.umask(0o077)
    try:
        runtime.install(tmp_path)
    finally:
        os.umask(old)
    modes = [one.stat().st_mode & 0o777 for one in (docker.settings, docker.copy, docker.installed)]
    assert modes == [0o644, 0o644, 0o755]


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    docker = Settings(tmp_path)
    (tmp_path / "usr").write_text("")
    with pytest.raises(WriteFailed) as caught:
        runtime.install(tmp_path)
    assert "labctl-runc" in caught.value.what
    assert not docker.settings.exists()


def test_another_wrapper_under_our_name_is_replaced(tmp_path: Path) -> None:
    docker = Settings(tmp_path)
    runtime.install(tmp_path)
    docker.installed.write_text("#!/bin/sh\n")
    assert not runtime.configured(tmp_path)
    runtime.install(tmp_path)
    assert docker.installed.read_bytes() == runtime.wrapper_file().read_bytes()
