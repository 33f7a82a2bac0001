"""This machine as a client and as a server, over the loopback interface."""

from __future__ import annotations

import base64
import errno
import socket
import threading
import time
from ipaddress import IPv4Address
from typing import Any, cast

import pytest

from labctl.errors import ImageUnavailable, ProbeDidNotRun
from labctl.probe.bystander import Bystander
from labctl.probe.outside import OutsideProbe, networks_of, outside_server
from labctl.process import Completed
from labctl.tools.docker import Docker, Network


def test_open_and_refused() -> None:
    with outside_server("127.0.0.1", "hello nonce") as server:
        seen = OutsideProbe().dial("127.0.0.1", server.port, request="x", tries=3)
        assert seen.open and seen.responders == {"hello nonce"} and len(seen.answers) == 3
        assert [path for _, _, path in server.calls] == ["/x"] * 3
        port = server.port
    after = OutsideProbe().dial("127.0.0.1", port)
    assert after.blocked and after.refused


def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with outside_server("127.0.0.1", "direct") as server:
        assert OutsideProbe().dial("127.0.0.1", server.port).answer == "direct"


def test_silence_is_blocked_but_not_refused() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(1)
        seen = OutsideProbe().dial("127.0.0.1", deaf.getsockname()[1], timeout=0.2)
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
        seen = OutsideProbe().dial("127.0.0.1", other.getsockname()[1])
        thread.join()
    assert not seen.open and not seen.blocked


def test_a_try_that_could_not_be_made_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_descriptor_left(*args: object, **kwargs: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "create_connection", no_descriptor_left)
    with pytest.raises(ProbeDidNotRun, match="Too many open files"):
        OutsideProbe().dial("127.0.0.1", 80)


def test_a_server_on_a_foreign_address_does_not_start() -> None:
    with pytest.raises(ProbeDidNotRun), outside_server("192.0.2.1", "x"):
        pytest.fail("192.0.2.1 is reserved for documentation")


def test_the_own_address_is_the_one_on_the_way() -> None:
    assert OutsideProbe().address_towards("127.0.0.1") == "127.0.0.1"


@pytest.mark.parametrize("host", ["192.0.2.1", "10.96.0.1", "8.8.8.8", "example.com", "localhost", "::1", ""])
def test_nobody_is_called_but_ourselves_and_what_is_allowed(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("a packet left"))
    with pytest.raises(ProbeDidNotRun, match="does not call"):
        OutsideProbe(networks_of(["172.31.255.2"], cast(Docker, FakeDocker()))).dial(host, 80)


def test_only_networks_that_this_machine_is_on_are_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    routed = {"172.31.255.9": "172.31.255.1", "172.31.254.9": "192.0.2.2", "172.30.0.9": "172.30.0.1"}
    monkeypatch.setattr("labctl.probe.outside.address_towards", lambda host: routed[host])
    docker = FakeDocker("172.31.255.0/24", "172.31.254.0/24", "172.30.0.0/16", "fc00:f853::/64")
    reach = networks_of(["172.31.255.2", "172.31.254.2", ""], cast(Docker, docker))
    assert reach(IPv4Address("172.31.255.9"))
    assert not reach(IPv4Address("172.31.254.9")), "the way there leads by another network"
    assert not reach(IPv4Address("172.30.0.9")), "a docker network without a node of the cluster"
    assert reach(IPv4Address("172.31.254.2")), "a node itself"
    assert docker.asked == 1


def test_without_docker_the_nodes_alone_are_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.probe.outside.address_towards", lambda host: "192.0.2.2")
    reach = networks_of(["198.51.100.7"], None)
    assert reach(IPv4Address("198.51.100.7"))
    assert not reach(IPv4Address("198.51.100.8"))


def test_a_server_that_trickles_ends_by_the_time_of_the_call() -> None:
    stop = threading.Event()
    with socket.socket() as slow:
        slow.bind(("127.0.0.1", 0))
        slow.listen(1)

        def trickle() -> None:
            conversation, _ = slow.accept()
            with conversation:
                while not stop.wait(0.05):
                    conversation.sendall(b"H")

        thread = threading.Thread(target=trickle)
        thread.start()
        started = time.monotonic()
        seen = OutsideProbe().dial("127.0.0.1", slow.getsockname()[1], timeout=0.3)
        stop.set()
        thread.join()
    assert seen.blocked and not seen.refused
    assert time.monotonic() - started < 2


class FakeDocker:
    """Knows networks by their subnets, and counts how often it is asked."""

    def __init__(self, *subnets: str) -> None:
        self.subnets = subnets
        self.asked = 0

    def networks(self) -> list[Network]:
        self.asked += 1
        return [Network(f"n{number}", (one,)) for number, one in enumerate(self.subnets)]


# --- the bystander


class BystandersDocker:
    """A daemon whose containers end as the test says."""

    def __init__(
        self, code: int, stdout: str = "", stderr: str = "", *, error: Exception | None = None
    ) -> None:
        self.done = Completed(("docker",), code, stdout, stderr, 0.1)
        self.error = error
        self.options: list[str] = []
        self.argv: list[str] = []

    def inspect(self, *names: str) -> list[dict[str, Any]]:
        return [{"Image": "sha256:1", "NetworkSettings": {"Networks": {"kind": {}}}}]

    def run(self, image: str, argv: list[str], *, options: list[str], **_: Any) -> Completed:
        if self.error:
            raise self.error
        self.options, self.argv = options, argv
        return self.done


def bystander(docker: BystandersDocker) -> Bystander:
    return Bystander(cast(Docker, docker), "a-worker")


def line(host: str, code: int, said: str) -> str:
    return f"{host} {code} {base64.b64encode(said.encode()).decode()}\n"


def test_a_bystander_has_no_way_out_and_stays_no_longer_than_its_calls() -> None:
    ok = "HTTP/1.0 200 OK\r\n\r\n"
    lines = line("172.18.0.4", 0, f"{ok}web-2/nonce") + line("172.18.0.3", 0, f"{ok}web-1/nonce")
    docker = BystandersDocker(0, lines)
    seen = bystander(docker).dial_each(["172.18.0.3", "172.18.0.4"], 80)
    assert [one.answer for one in seen] == ["web-1/nonce", "web-2/nonce"]
    assert {"--rm", "--network=kind", "--cap-drop=ALL"} <= set(docker.options)
    script = docker.argv[1]
    assert (
        script.index("route del default") < script.index("route show default") < script.index('call "$host"')
    )


@pytest.mark.parametrize(
    ("code", "said", "refused"),
    [
        (7, "bash: connect: Connection refused\nbash: /dev/tcp/10.0.0.1/80: Connection refused\n", True),
        (7, "bash: connect: No route to host\nbash: /dev/tcp/10.0.0.1/80: No route to host\n", False),
        (124, "", False),
    ],
)
def test_a_bystander_knows_refusal_from_silence(code: int, said: str, refused: bool) -> None:
    seen = bystander(BystandersDocker(0, line("10.0.0.1", code, said))).dial("10.0.0.1", 80)
    assert seen.blocked
    assert seen.refused is refused


def test_an_answer_that_is_no_http_is_somebody_to_a_bystander() -> None:
    seen = bystander(BystandersDocker(0, line("10.0.0.1", 0, "220 mail ready\r\n"))).dial("10.0.0.1", 25)
    assert not seen.open and not seen.blocked


@pytest.mark.parametrize(
    "docker",
    [
        BystandersDocker(2, "", "RTNETLINK answers: Operation not permitted"),
        BystandersDocker(0, ""),
        BystandersDocker(0, line("10.0.0.2", 124, "")),
        BystandersDocker(0, line("10.0.0.1", 137, "killed")),
        BystandersDocker(0, error=ImageUnavailable("image is not here", why="no such image")),
    ],
)
def test_a_bystander_that_could_not_call_has_seen_nothing(docker: BystandersDocker) -> None:
    with pytest.raises(ProbeDidNotRun):
        bystander(docker).dial("10.0.0.1", 80)


def test_a_bystander_calls_addresses_only() -> None:
    with pytest.raises(ProbeDidNotRun, match="no IPv4 address"):
        bystander(BystandersDocker(0)).dial("example.com", 80)
