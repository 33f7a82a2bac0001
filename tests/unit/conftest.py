"""The guard around the unit tests: no docker, no kind, no cluster, no network, no home directory of the user.

An audit hook sees every process start and every connection of this interpreter, whichever library asks for
it. Allowed are: programs that the test itself wrote, a handful of harmless system tools, this Python, and
connections to loopback ports that the test itself opened. Anything else raises `Forbidden` on the spot and,
should the code under test swallow that, fails the test at its end.
"""

from __future__ import annotations

import ipaddress
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

SAFE_TOOLS = """
    awk basename bash cat chmod cut date dirname echo env false grep head kill ls mkdir printf rm sed seq sh
    sleep sort stat sync tail tee touch tr true uname wc
""".split()
"""What fake tools may be written with. None of them can reach a daemon or a network."""

CLEARED = """
    ALL_PROXY CI CLICOLOR COLUMNS DOCKER_CERT_PATH DOCKER_CONFIG DOCKER_CONTEXT DOCKER_HOST DOCKER_TLS_VERIFY
    FORCE_COLOR GITHUB_ACTIONS GITHUB_STEP_SUMMARY HTTPS_PROXY HTTP_PROXY KIND_EXPERIMENTAL_DOCKER_NETWORK
    KIND_EXPERIMENTAL_PROVIDER KUBECONFIG NO_COLOR NO_PROXY TERM XDG_RUNTIME_DIR all_proxy http_proxy
    https_proxy no_proxy
""".split()
"""Variables that would let the machine that runs the tests decide their outcome."""


class Forbidden(AssertionError):
    """A unit test tried to leave its box."""


class Guard:
    """What the test under way may do, and what it tried beyond that."""

    def __init__(self) -> None:
        self.active = False
        self.roots: list[Path] = []
        self.programs: set[Path] = set()
        self.ports: set[int] = set()
        self.violations: list[str] = []

    def allow_port(self, port: int) -> None:
        """Let the test connect to a loopback port that a child process of it listens on."""
        self.ports.add(port)

    def refuse(self, what: str) -> None:
        """Note the attempt and stop it."""
        self.violations.append(what)
        raise Forbidden(f"a unit test may not {what}")

    def forgive(self) -> list[str]:
        """Forget what was tried, and return it; for the tests of the guard itself."""
        tried, self.violations = self.violations, []
        return tried

    # --- the questions of the audit hook --------------------------------------

    def program(self, program: Any, env: Mapping[Any, Any] | None) -> None:
        """Refuse to start anything but this Python, a safe tool, or a file that the test wrote."""
        name = os.fsdecode(program)
        path = os.fsdecode((env or os.environ).get("PATH", ""))
        found = shutil.which(name, path=path) if os.sep not in name else name
        if found is None:
            return  # not on the reduced PATH: the start fails by itself, as on a machine without the tool
        here = Path(found).resolve()
        if here not in self.programs and not any(here.is_relative_to(root) for root in self.roots):
            self.refuse(f"start {found}")

    def connection(self, event: str, sock: socket.socket, address: Any) -> None:
        """Refuse anything but a loopback port or a socket file of the test's own."""
        family = sock.family
        if family == socket.AF_UNIX:
            path = Path(os.fsdecode(address))
            if not any(path.resolve().is_relative_to(root) for root in self.roots):
                self.refuse(f"connect to {path}")
        elif family in (socket.AF_INET, socket.AF_INET6):
            host, port = address[0], address[1]
            if event == "socket.connect" and sock.type == socket.SOCK_DGRAM and is_loopback(host):
                return  # sends nothing: it only chooses a source address
            if not is_loopback(host) or port not in self.ports:
                self.refuse(f"connect to {host} port {port}")

    def lookup(self, host: Any) -> None:
        """Refuse to ask a name server."""
        name = os.fsdecode(host) if host else ""
        if name and not is_loopback(name) and not is_numeric(name):
            self.refuse(f"look up {name}")


def is_numeric(host: str) -> bool:
    """Whether ``host`` is an address and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine's own loopback, by name or by address."""
    return host == "localhost" or (is_numeric(host) and ipaddress.ip_address(host).is_loopback)


GUARD = Guard()


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not GUARD.active:
        return
    if event == "subprocess.Popen":
        GUARD.program(arguments[0] or arguments[1][0], arguments[3])
    elif event in ("os.exec", "os.posix_spawn"):
        GUARD.program(arguments[0], arguments[2])
    elif event == "os.system":
        GUARD.refuse("start a shell")
    elif event in ("socket.connect", "socket.sendto"):
        GUARD.connection(event, arguments[0], arguments[1])
    elif event == "socket.getaddrinfo":
        GUARD.lookup(arguments[0])


sys.addaudithook(_watch)


@pytest.fixture(scope="session")
def safe_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of links to the safe tools: all of PATH that a unit test keeps."""
    directory = tmp_path_factory.mktemp("safe-path")
    for name in SAFE_TOOLS:
        found = shutil.which(name)
        if found:
            (directory / name).symlink_to(found)
    return directory


@pytest.fixture(autouse=True)
def guard(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, safe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Guard]:
    """Close the box around one test: its own home, a minimal PATH, and the audit hook switched on."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for kind in ("CACHE", "CONFIG", "DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(home / f".{kind.lower()}"))
    for name in CLEARED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LABCTL_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("PATH", str(safe_path))

    bind = socket.socket.bind

    def remember_port(self: socket.socket, address: Any) -> None:
        bind(self, address)
        if self.family in (socket.AF_INET, socket.AF_INET6):
            GUARD.ports.add(self.getsockname()[1])

    monkeypatch.setattr(socket.socket, "bind", remember_port)
    GUARD.roots = [tmp_path_factory.getbasetemp().resolve()]
    GUARD.programs = {Path(sys.executable).resolve(), *(tool.resolve() for tool in safe_path.iterdir())}
    GUARD.ports.clear()
    GUARD.violations.clear()
    GUARD.active = True
    yield GUARD
    GUARD.active = False
    assert not GUARD.violations, f"the test tried to {'; '.join(GUARD.violations)}"


class FakeTools:
    """Small programs of the test's own, first on PATH. Each keeps a record of how it was called."""

    def __init__(self, directory: Path, records: Path) -> None:
        self.directory = directory
        self._records = records

    def sh(self, name: str, body: str) -> Path:
        """Write a shell script called ``name``."""
        return self._write(name, "#!/bin/sh", self._shell_record(name), body)

    def python(self, name: str, body: str) -> Path:
        """Write a Python program called ``name``; ``sys`` is imported already."""
        record = (
            f"import sys; open({str(self._record(name))!r}, 'a').write('\\0'.join(sys.argv[1:]) + '\\n\\0')"
        )
        return self._write(name, f"#!{sys.executable}", record, body)

    def link(self, name: str, script: Path) -> Path:
        """Put a committed fake (tests/unit/fakes/...) on PATH under ``name``."""
        return self.sh(name, f'exec {shlex.quote(sys.executable)} {shlex.quote(str(script))} "$@"')

    def remove(self, name: str) -> None:
        """Take the program away again."""
        (self.directory / name).unlink()

    def calls(self, name: str) -> list[list[str]]:
        """The arguments of each call so far, without the program's name."""
        record = self._record(name)
        if not record.exists():
            return []
        lines = record.read_text().split("\n\0")[:-1]
        return [line.split("\0") if line else [] for line in lines]

    def _record(self, name: str) -> Path:
        return self._records / name

    def _shell_record(self, name: str) -> str:
        record = shlex.quote(str(self._record(name)))
        return (
            '{ first=1; for word in "$@"; do [ $first ] || printf "\\0"; first=; printf "%s" "$word"; done; '
            f'printf "\\n\\0"; }} >> {record}'
        )

    def _write(self, name: str, *parts: str) -> Path:
        path = self.directory / name
        path.write_text("\n".join(parts) + "\n")
        path.chmod(0o755)
        return path


@pytest.fixture
def fake_tools(tmp_path: Path, safe_path: Path, guard: Guard, monkeypatch: pytest.MonkeyPatch) -> FakeTools:
    """Fake programs, found before the few real ones that are left on PATH."""
    directory, records = tmp_path / "fake-tools", tmp_path / "fake-calls"
    directory.mkdir()
    records.mkdir()
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{safe_path}")
    return FakeTools(directory, records)
