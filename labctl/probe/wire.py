"""One HTTP request over one connection, as bytes.

For callers that must know how long they wait in all: http.client counts its time anew with every byte and
reads bodies of any length. It opens no connection and consults no proxy settings.
"""

from __future__ import annotations

import http.client
import io

MOST_BYTES = 65536
"""Of one answer; what probes say has a hundred."""


def request(host: str, port: int, path: str) -> bytes:
    """``GET /path``, after whose answer the server closes the connection."""
    return f"GET /{path} HTTP/1.0\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode()


def body(received: bytes) -> str:
    """The body of an answer. Raises `http.client.HTTPException` for what is no HTTP."""
    response = http.client.HTTPResponse(_Received(received))  # type: ignore[arg-type]  # makefile() is all it needs
    response.begin()
    return response.read(MOST_BYTES).decode("utf-8", "replace")


class _Received:
    """What has arrived, in the shape of the socket that HTTPResponse reads from."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._content)
