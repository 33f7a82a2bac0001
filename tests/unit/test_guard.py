"""The guard itself: it must stop what it promises to stop, and let through what tests are made of."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from labctl import paths, process
from labctl.errors import ToolMissing

from .conftest import FakeTools, Forbidden, Guard


@pytest.mark.parametrize("tool", ["docker", "kind", "kubectl", "go", "apt-get", "dockerd"])
def test_a_tool_of_the_machine_is_not_there(tool: str) -> None:
    assert shutil.which(tool) is None
    with pytest.raises(ToolMissing):
        process.run([tool, "--version"], timeout=5)


def test_its_absolute_path_is_refused(guard: Guard) -> None:
    program = next(p for p in ("/usr/bin/apt-get", "/usr/bin/id", "/bin/ps") if Path(p).exists())
    with pytest.raises(Forbidden):
        process.run([program, "--version"], timeout=5)
    assert guard.forgive() == [f"start {program}"]


def test_a_real_path_in_the_child_environment_is_refused(guard: Guard) -> None:
    with pytest.raises(Forbidden):
        subprocess.run(["id"], env={"PATH": "/usr/bin:/bin"}, check=False)
    assert guard.forgive()


@pytest.mark.parametrize(
    "start", [lambda: os.system("true"), lambda: os.posix_spawn("/usr/bin/id", ["id"], {})]
)
def test_other_ways_to_start_a_program_are_refused(guard: Guard, start: object) -> None:
    with pytest.raises(Forbidden):
        start()  # type: ignore[operator]
    assert guard.forgive()


@pytest.mark.parametrize("address", [("192.0.2.1", 443), ("127.0.0.1", 6443), ("172.18.0.2", 6443)])
def test_a_connection_to_a_port_that_the_test_did_not_open_is_refused(
    guard: Guard, address: tuple[str, int]
) -> None:
    with socket.socket() as sock, pytest.raises(Forbidden):
        sock.connect(address)
    assert guard.forgive()


def test_the_docker_socket_is_refused(guard: Guard) -> None:
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(Forbidden):
        sock.connect("/var/run/docker.sock")
    assert guard.forgive()


def test_a_name_is_not_looked_up(guard: Guard) -> None:
    with pytest.raises(Forbidden):
        socket.getaddrinfo("registry.example.org", 443)
    assert guard.forgive()


def test_what_the_code_swallows_is_still_known(guard: Guard) -> None:
    with socket.socket() as sock, contextlib.suppress(Exception):
        sock.connect(("192.0.2.1", 80))
    assert guard.forgive() == ["connect to 192.0.2.1 port 80"]


def test_a_server_of_the_test_answers() -> None:
    class Hello(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Hello) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/", timeout=5) as answer:
                assert answer.read() == b"hello"
        finally:
            server.shutdown()
            thread.join()


def test_a_fake_tool_runs_and_remembers_its_calls(fake_tools: FakeTools) -> None:
    fake_tools.sh("docker", 'echo "out $1"; echo err >&2; exit 3')
    fake_tools.python("kind", "print(sys.argv[1:])")
    done = process.run(["docker", "two words", "", "x\ny"], timeout=5, check=False)
    assert (done.stdout, done.stderr, done.exit_code) == ("out two words\n", "err\n", 3)
    assert process.run(["kind", "a", "b"], timeout=5).stdout == "['a', 'b']\n"
    process.run(["docker"], timeout=5, check=False)
    assert fake_tools.calls("docker") == [["two words", "", "x\ny"], []]
    assert fake_tools.calls("kind") == [["a", "b"]]
    assert fake_tools.calls("never") == []


def test_this_python_runs() -> None:
    assert process.run([sys.executable, "-c", "print(1)"], timeout=20).stdout == "1\n"


def test_home_is_the_test_s_own(tmp_path: Path) -> None:
    assert paths.cache_root().is_relative_to(tmp_path)
    assert Path.home().is_relative_to(tmp_path)
    assert "KUBECONFIG" not in os.environ
