"""The traps of the official client, each against a server on the loopback interface."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import V1ObjectMeta, V1Pod
from kubernetes.client.exceptions import ApiException

from labctl import kube as kube_module
from labctl import paths, wholeanswers
from labctl.errors import ApiRefused, ApiUnreachable, KubernetesError, StateUnusable
from labctl.kube import Kube, _exit_code, connect, translated


class FakeApi:
    """An API server that answers from a script: a list of (status, headers, body), the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], Any]] = [(200, {}, {})]
        self.requests: list[str] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                fake.requests.append(f"{self.command} {self.path}")
                self.rfile.read(int(self.headers.get("content-length") or 0))
                status, headers, body = fake.answers.pop(0) if len(fake.answers) > 1 else fake.answers[0]
                data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"content-type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = do_CONNECT = answer

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def api() -> Iterator[FakeApi]:
    fake = FakeApi()
    yield fake
    fake.server.shutdown()
    fake.server.server_close()


def kubeconfig(tmp_path: Path, url: str, **user: str) -> Path:
    path = tmp_path / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": url}}],
                "users": [{"name": "u", "user": user}],
            }
        )
    )
    return path


def pod(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": []}}


def read_pod(kube: Kube) -> str | None:
    """The name that a read of pod n/a brings back."""
    metadata = kube.core.read_namespaced_pod(name="a", namespace="n").metadata
    return metadata.name if metadata else None


def test_proxies_from_the_environment_are_not_used(
    tmp_path: Path, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = FakeApi()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, proxy.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    api.answers = [(200, {}, pod("a"))]
    kube = connect(kubeconfig(tmp_path, api.url))
    assert read_pod(kube) == "a"
    with pytest.raises(KubernetesError):  # the fake speaks no websocket; what counts is who was asked
        kube.exec("n", "a", ["true"], timeout=5)
    kube.close()
    proxy.server.shutdown()
    proxy.server.server_close()
    assert proxy.requests == []
    assert len(api.requests) == 2


def test_kubeconfig_of_the_environment_is_not_consulted(
    tmp_path: Path, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    production = FakeApi()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(elsewhere, production.url)))
    api.answers = [
        (
            200,
            {},
            {
                "major": "1",
                "minor": "37",
                "gitVersion": "v1.37.2",
                "gitCommit": "",
                "gitTreeState": "",
                "buildDate": "",
                "goVersion": "",
                "compiler": "",
                "platform": "",
            },
        )
    ]
    kube = connect(kubeconfig(tmp_path, api.url))
    assert kube.version() == "v1.37.2"
    kube.close()
    production.server.shutdown()
    production.server.server_close()
    assert production.requests == []


def test_a_read_is_retried_after_503_and_429(tmp_path: Path, api: FakeApi) -> None:
    api.answers = [(503, {}, ""), (429, {"Retry-After": "0"}, ""), (200, {}, pod("a"))]
    kube = connect(kubeconfig(tmp_path, api.url))
    assert read_pod(kube) == "a"
    assert len(api.requests) == 3
    kube.close()


def test_a_read_gives_up_after_its_retries(tmp_path: Path, api: FakeApi) -> None:
    api.answers = [(503, {}, "")]
    kube = connect(kubeconfig(tmp_path, api.url))
    with pytest.raises(ApiRefused) as refused, kube.translated("read the pod"):
        kube.core.read_namespaced_pod(name="a", namespace="n")
    assert refused.value.status == 503
    assert len(api.requests) == 1 + kube_module.READ_RETRIES
    kube.close()


def test_a_write_is_sent_once(tmp_path: Path, api: FakeApi) -> None:
    api.answers = [(503, {"Retry-After": "0"}, "")]
    kube = connect(kubeconfig(tmp_path, api.url))
    with pytest.raises(ApiRefused), kube.translated("create a pod"):
        kube.core.create_namespaced_pod(namespace="n", body=V1Pod(metadata=V1ObjectMeta(name="a")))
    assert len(api.requests) == 1
    kube.close()


def test_a_server_cannot_make_us_wait_for_an_hour(
    tmp_path: Path, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_module, "RETRY_AFTER_MOST_SECONDS", 0.05)
    api.answers = [(429, {"Retry-After": "3600"}, ""), (200, {}, pod("a"))]
    kube = connect(kubeconfig(tmp_path, api.url))
    started = time.monotonic()
    kube.core.read_namespaced_pod(name="a", namespace="n")
    assert time.monotonic() - started < 5
    kube.close()


def test_the_pod_proxy_is_asked_once_and_says_why_it_failed(tmp_path: Path, api: FakeApi) -> None:
    status = {
        "kind": "Status",
        "status": "Failure",
        "reason": "ServiceUnavailable",
        "message": "error trying to reach service: dial tcp 10.0.0.1:80: connect: connection refused",
        "code": 503,
    }
    api.answers = [(503, {}, status)]
    kube = connect(kubeconfig(tmp_path, api.url))
    with pytest.raises(ApiRefused) as refused:
        kube.pod_get("n", "a", port=80, path="/hostname")
    assert refused.value.status == 503
    assert "connection refused" in refused.value.why
    assert api.requests == ["GET /api/v1/namespaces/n/pods/a:80/proxy/hostname"]
    kube.close()


def test_the_pod_proxy_passes_the_query_on(tmp_path: Path, api: FakeApi) -> None:
    api.answers = [(200, {"content-type": "text/plain"}, "pod-a")]
    kube = connect(kubeconfig(tmp_path, api.url))
    assert kube.pod_get("n", "a", port=80, path="/dial", query={"host": "1.2.3.4", "tries": 3}) == "pod-a"
    assert api.requests == ["GET /api/v1/namespaces/n/pods/a:80/proxy/dial?host=1.2.3.4&tries=3"]
    kube.close()


@pytest.fixture
def black_hole() -> Iterator[str]:
    """A server that accepts and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_never_answers_ends_a_call_by_its_time_out(
    tmp_path: Path, black_hole: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_module, "CALL_SECONDS", (0.2, 0.2))
    kube = connect(kubeconfig(tmp_path, f"{scheme}://{black_hole}"))
    started = time.monotonic()
    with pytest.raises(ApiUnreachable):
        kube.version()
    assert time.monotonic() - started < 5
    kube.close()


class Trickle:
    """A server that sends ``before`` at once, then ``piece`` again and again, ``every`` so many seconds."""

    def __init__(self, before: bytes, piece: bytes, every: float) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.calls = 0
        self._ended = threading.Event()
        self._say = (before, piece, every)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.calls += 1
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        before, piece, every = self._say
        with contextlib.suppress(OSError), connection:
            connection.recv(65536)
            connection.sendall(before)
            while not self._ended.wait(every):
                connection.sendall(piece)

    def close(self) -> None:
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
TRICKLES = {
    "the status": (b"HT", b"T"),
    "the head": (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"),
    "the body": (HEAD, b"x"),
    "a body in chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "a body without end": (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
}
CALLS: dict[str, Callable[[Kube], object]] = {
    "the client's": lambda kube: kube.core.read_namespaced_pod(name="a", namespace="n"),
    "ours": lambda kube: kube.raw_get("/readyz", timeout=0.5),
    "a pod's": lambda kube: kube.pod_get("n", "a", port=80, path="/", timeout=0.5),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("what", TRICKLES)
def test_a_server_that_trickles_ends_a_call_by_its_whole_time_out(
    tmp_path: Path, what: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_module, "CALL_SECONDS", (0.5, 0.5))
    server = Trickle(*TRICKLES[what], every=0.05)
    kube = connect(kubeconfig(tmp_path, server.url))
    started = time.monotonic()
    with pytest.raises(ApiUnreachable) as caught, kube.translated("ask"):
        CALLS[call](kube)
    assert time.monotonic() - started < 2
    assert "time" in caught.value.why
    assert server.calls == 1
    kube.close()
    server.close()


@pytest.mark.parametrize("call", CALLS)
def test_a_body_has_a_bound(tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wholeanswers, "MOST_BYTES", 1 << 20)
    monkeypatch.setattr(kube_module, "CALL_SECONDS", (5.0, 20.0))
    server = Trickle(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536, every=0.0)
    kube = connect(kubeconfig(tmp_path, server.url))
    with pytest.raises(ApiUnreachable) as caught, kube.translated("ask"):
        kube.raw_get("/", timeout=20.0) if call == "ours" else CALLS[call](kube)
    assert "larger than 1 MiB" in caught.value.why
    kube.close()
    server.close()


def test_a_packed_body_is_not_unpacked(tmp_path: Path) -> None:
    bomb = gzip.compress(b"x" * (1 << 20))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
    server = Trickle(head + bomb, b"", every=0.05)
    kube = connect(kubeconfig(tmp_path, server.url))
    assert len(kube.pod_get("n", "a", port=80, path="/")) <= len(bomb)
    kube.close()
    server.close()


def test_a_connection_is_used_again_after_a_whole_answer(tmp_path: Path, api: FakeApi) -> None:
    api.answers = [(200, {}, pod("a"))]
    kube = connect(kubeconfig(tmp_path, api.url))
    assert [read_pod(kube) for _ in range(3)] == ["a", "a", "a"]
    kube.close()


def websocket(frames: bytes, every: float) -> Trickle:
    """A server that accepts any exec and sends ``frames`` again and again."""

    class Accepting(Trickle):
        def _talk(self, connection: socket.socket) -> None:
            asked = connection.recv(65536, socket.MSG_PEEK).decode()
            key = re.findall(r"sec-websocket-key: (\S+)", asked, re.IGNORECASE)[0]
            proof = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
            head = (
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Accept: {base64.b64encode(proof).decode()}\r\n"
                "Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n"
            )
            self._say = (head.encode(), frames, every)
            super()._talk(connection)

    return Accepting(b"", b"", every)


@pytest.mark.parametrize("channel", [1, 2])
def test_what_an_exec_prints_has_a_bound(
    tmp_path: Path, channel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_module, "EXEC_CHARACTERS", 1 << 20)
    frame = bytes([0x82, 126]) + (60001).to_bytes(2, "big") + bytes([channel]) + b"x" * 60000
    server = websocket(frame, every=0.0)
    kube = connect(kubeconfig(tmp_path, server.url))
    with pytest.raises(ApiUnreachable) as caught:
        kube.exec("n", "a", ["yes"], timeout=20)
    assert "printed more than 1 million characters" in caught.value.why
    kube.close()
    server.close()


def test_an_exec_that_never_connects_ends_by_its_time_out(tmp_path: Path, black_hole: str) -> None:
    from labctl.errors import DeadlineExceeded

    kube = connect(kubeconfig(tmp_path, f"http://{black_hole}"))
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        kube.exec("n", "a", ["true"], timeout=0.2)
    assert time.monotonic() - started < 5
    kube.close()


def test_nobody_listening_is_unreachable_with_the_reason(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kube = connect(kubeconfig(tmp_path, f"http://127.0.0.1:{port}"))
    with pytest.raises(ApiUnreachable) as unreachable:
        kube.version()
    assert "refused" in unreachable.value.why
    kube.close()


@pytest.mark.parametrize("content", ["", "a: [", "just text", "clusters: 7\ncontexts: {}", "\x00"])
def test_an_unusable_kubeconfig_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "broken"
    path.write_text(content)
    with pytest.raises(StateUnusable) as unusable:
        connect(path)
    assert str(path) in unusable.value.what


def test_a_missing_kubeconfig_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateUnusable):
        connect(tmp_path / "absent")


def test_keys_are_written_into_a_private_directory_only(tmp_path: Path) -> None:
    secret = base64.b64encode(b"not a key").decode()
    killed = paths.state_root() / ".client-keys" / "999999999"
    killed.mkdir(parents=True)
    connect(
        kubeconfig(
            tmp_path, "https://127.0.0.1:1", **{"client-key-data": secret, "client-certificate-data": secret}
        )
    )
    (ours,) = (paths.state_root() / ".client-keys").iterdir()
    assert ours.stat().st_mode & 0o777 == 0o700
    assert b"not a key" in {f.read_bytes() for f in ours.iterdir()}
    assert not killed.exists()


@pytest.mark.parametrize(
    ("report", "code"),
    [
        ('{"status": "Success"}', 0),
        (
            '{"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": "7"}]}}',
            7,
        ),
    ],
)
def test_the_exit_code_of_an_exec(report: str, code: int) -> None:
    assert _exit_code("exec", report) == code


def test_an_exec_that_could_not_start_is_refused_with_its_reason() -> None:
    with pytest.raises(ApiRefused) as refused:
        _exit_code(
            "exec",
            '{"status": "Failure", "message": "no such container", "code": 500}',
        )
    assert refused.value.why == "no such container"


@pytest.mark.parametrize("report", ["", "garbage"])
def test_a_lost_exit_code_is_never_taken_for_success(report: str) -> None:
    with pytest.raises(ApiUnreachable):
        _exit_code("exec", report)


def test_a_refused_exec_has_the_status_that_the_client_hides() -> None:
    body = '{"kind":"Status","message":"pods \\"nosuch\\" not found","reason":"NotFound","code":404}'
    hidden = ApiException(
        status=0, reason=f"Handshake status 404 Not Found -+-+- {{'audit-id': 'x'}} -+-+- {body}\n"
    )
    with pytest.raises(ApiRefused) as refused, translated("exec"):
        raise hidden
    assert refused.value.status == 404
    assert refused.value.why == '404 NotFound: pods "nosuch" not found'


def test_release_36_of_the_client_hides_a_refused_exec_behind_a_mistake_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stumbling(*args: Any, **kwargs: Any) -> None:
        try:
            raise ApiException(status=0, reason="Handshake status 500 Internal Server Error")
        except ApiException:
            raise AttributeError("'NoneType' object has no attribute 'decode'")  # noqa: B904  # as there

    monkeypatch.setattr(kube_module, "stream", stumbling)
    with pytest.raises(ApiException, match="Handshake status 500"):
        kube_module._stream(None)
    monkeypatch.setattr(kube_module, "stream", lambda *args, **kwargs: args[0].missing)
    with pytest.raises(AttributeError):
        kube_module._stream(object())
