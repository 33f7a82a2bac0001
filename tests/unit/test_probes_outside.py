"""This machine as a client and as a server, over the loopback interface."""

from __future__ import annotations

import errno
import socket
import threading

import pytest

from labctl.errors import ProbeDidNotRun
from labctl.lab.outside import OutsideProbe, outside_server


def test_open_and_refused() -> None:
    with outside_server("127.0.0.1", "hello nonce") as server:
        seen = OutsideProbe().get("127.0.0.1", server.port, "x", tries=3)
        assert seen.open and seen.responders == {"hello nonce"} and len(seen.answers) == 3
        assert [path for _, _, path in server.calls] == ["/x"] * 3
        port = server.port
    after = OutsideProbe().get("127.0.0.1", port)
    assert after.blocked and after.refused


def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with outside_server("127.0.0.1", "direct") as server:
        assert OutsideProbe().get("127.0.0.1", server.port).answer == "direct"


def test_silence_is_blocked_but_not_refused() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(1)
        seen = OutsideProbe().get("127.0.0.1", deaf.getsockname()[1], timeout=0.2)
    assert seen.blocked and not seen.refused


def test_a_server_that_speaks_no_http_is_somebody() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)

        def answer() -> None:
            conversation, _ = other.accept()
            conversation.recv(1000)
            conversation.sendall(b"220 mail ready\r\n")
            conversation.close()

        thread = threading.Thread(target=answer)
        thread.start()
        seen = OutsideProbe().get("127.0.0.1", other.getsockname()[1])
        thread.join()
    assert not seen.open and not seen.blocked


def test_a_try_that_could_not_be_made_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_descriptor_left(*args: object, **kwargs: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "create_connection", no_descriptor_left)
    with pytest.raises(ProbeDidNotRun, match="Too many open files"):
        OutsideProbe().get("127.0.0.1", 80)


def test_a_server_on_a_foreign_address_does_not_start() -> None:
    with pytest.raises(ProbeDidNotRun), outside_server("192.0.2.1", "x"):
        pytest.fail("192.0.2.1 is reserved for documentation")


def test_the_own_address_is_the_one_on_the_way() -> None:
    assert OutsideProbe().address_towards("127.0.0.1") == "127.0.0.1"
