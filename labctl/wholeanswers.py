"""Answers over HTTP that end: each within its time as a whole, and none larger than a bound.

A socket counts its time-out anew with every byte, so a server that trickles holds a caller for as long as it likes;
and a body is read whatever its length. Here the two are limits of the whole answer, its head included. This is for
urllib3's pools, and knows nothing of what is asked.
"""

from __future__ import annotations

import errno
import http.client
import io
import socket
import time
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

MOST_BYTES = 64 << 20
"""Of one answer. The longest that is asked for is a list of all pods, some 10 kB for each."""


class _Bounded(io.RawIOBase):
    """The bytes of one answer, as they come; the time that ``sock`` has for each is that of all of them."""

    def __init__(self, sock: socket.socket, raw: Any) -> None:
        self._sock = sock
        self._raw = raw
        self._seconds = sock.gettimeout()
        self._began = time.monotonic()
        self._bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._seconds is not None:
            left = self._began + self._seconds - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            self._sock.settimeout(left)
        count: int | None = self._raw.readinto(buffer)
        self._bytes += count or 0
        if self._bytes > MOST_BYTES:
            raise OSError(errno.EMSGSIZE, f"the answer is larger than {MOST_BYTES >> 20} MiB")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Bounded(sock, self.fp.detach()))


class _Plain(HTTPConnection):
    response_class = _Answer


class _Secure(HTTPSConnection):
    response_class = _Answer


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Secure


def bound(manager: urllib3.PoolManager) -> None:
    """Let every answer through ``manager`` be bounded; its read time-out is that of a whole answer from now on."""
    manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}
    manager.clear()
