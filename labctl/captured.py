"""What code of other people prints is heard, and never mixed into a result.

Labs are such code. `captured` turns what they print into lines for whoever asks; `streams_apart` moves the real
streams out of reach of what writes past Python. Nothing here knows labs, and nothing here writes of its own.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TextIO

LINES = 500
"""How many lines of one capture are passed on; the others are counted."""
LINE_CHARACTERS = 4_000
"""A line that has grown this long is passed on before its end."""


class _Lines:
    """Text that comes in pieces, passed on line by line."""

    def __init__(self, sink: Callable[[str], None]) -> None:
        self._sink = sink
        self._begun = ""
        self._lines = 0
        self._lock = threading.RLock()

    def feed(self, text: str) -> None:
        with self._lock:
            *whole, self._begun = (self._begun + text).split("\n")
            while len(self._begun) >= LINE_CHARACTERS:
                whole.append(self._begun[:LINE_CHARACTERS])
                self._begun = self._begun[LINE_CHARACTERS:]
            for line in whole:
                self._pass(line)

    def end(self) -> None:
        with self._lock:
            if self._begun:
                self._pass(self._begun)
                self._begun = ""
            if self._lines > LINES:
                self._sink(f"... {self._lines - LINES} more line(s) left out")

    def _pass(self, line: str) -> None:
        self._lines += 1
        if self._lines > LINES:
            return
        before = _TOLD.set(True)  # whoever listens may print as well; that is not to be heard again
        try:
            self._sink(line.rstrip("\r"))
        finally:
            _TOLD.reset(before)


_HERE: ContextVar[_Lines | None] = ContextVar("_HERE", default=None)
_TOLD: ContextVar[bool] = ContextVar("_TOLD", default=False)
_lock = threading.RLock()
_active: list[_Lines] = []
_strays: list[_Lines] = []
_real: dict[str, TextIO | None] = {}


@contextlib.contextmanager
def captured(sink: Callable[[str], None]) -> Iterator[None]:
    """Pass each line that this thread prints to sys.stdout or sys.stderr within the block to ``sink``.

    Several threads may capture at once, each for itself. A thread that was started inside is heard as well: by
    the only capture under way, or, where there are several, by the one who called `streams_apart`; run it in
    `contextvars.copy_context()` to have it heard by its own. At most `LINES` lines are passed on. Code inside
    may replace or close the streams; at the end they are as they were.
    """
    lines = _Lines(sink)
    with _lock:
        _active.append(lines)
        _take_over()
    before = _HERE.set(lines)
    try:
        yield
    finally:
        _HERE.reset(before)
        with _lock:
            _active.remove(lines)
            if not _active and not _strays:
                _give_back()
        lines.end()


@contextlib.contextmanager
def streams_apart(strays: Callable[[str], None]) -> Iterator[tuple[TextIO, TextIO]]:
    """Yield the real stdout and stderr as streams that nobody else has, while descriptor 1 leads to stderr.

    So what a child process, `os.system` or `os.write` sends to stdout never stands in a result. What is printed
    outside any capture goes to ``strays``, line by line. Where stdout is no descriptor (a test's buffer), the
    streams are yielded as they are.
    """
    lines = _Lines(strays)
    with contextlib.ExitStack() as stack:
        streams = stack.enter_context(_moved_away())
        with _lock:
            _strays.append(lines)
            _take_over()
        try:
            yield streams
        finally:
            with _lock:
                _strays.remove(lines)
                if not _active and not _strays:
                    _give_back()
            lines.end()


def real(name: str) -> TextIO | None:
    """sys.stdout or sys.stderr, or what stood there before a capture began."""
    with _lock:
        return _real[name] if name in _real else getattr(sys, name)


def occupy() -> None:
    """Let descriptors 0 to 2 that the caller has closed lead nowhere, so that no file of ours takes their place."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115  # lives as long as we do
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


# --- the streams that stand in ------------------------------------------------


class _Router(io.TextIOBase):
    """Stands for sys.stdout or sys.stderr: hands on to the capture of the thread that writes."""

    def __init__(self, name: str, number: int) -> None:
        self._name = name
        self._number = number
        self.buffer = _Bytes(self)

    encoding = "utf-8"
    errors = "replace"

    def write(self, text: str) -> int:
        lines = None if _TOLD.get() else _HERE.get() or _whose()
        if lines is not None:
            lines.feed(text)
        elif (stream := real(self._name)) is not None:
            stream.write(text)
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number  # a child may be given it: `streams_apart` has pointed it to stderr

    def close(self) -> None:
        """Stay open: the stream belongs to everybody."""


class _Bytes(io.RawIOBase):
    """The ``buffer`` of a stream that stands in."""

    def __init__(self, text: _Router) -> None:
        self._text = text

    def write(self, data: Any) -> int:
        raw = bytes(data)
        self._text.write(raw.decode("utf-8", "replace"))
        return len(raw)

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """Stay open."""


ROUTERS = {"stdout": _Router("stdout", 1), "stderr": _Router("stderr", 2)}


def _whose() -> _Lines | None:
    """The capture that hears a thread which has none of its own."""
    with _lock:
        if len(_active) == 1:
            return _active[0]
        return _strays[-1] if _strays else None


def _take_over() -> None:
    for name, router in ROUTERS.items():
        now = getattr(sys, name)
        if now is not router:
            if name not in _real:
                _real[name] = now
            setattr(sys, name, router)  # also where a lab has put something else there


def _give_back() -> None:
    for name in ROUTERS:
        if name in _real:
            setattr(sys, name, _real.pop(name))


# --- descriptors --------------------------------------------------------------


@contextlib.contextmanager
def _moved_away() -> Iterator[tuple[TextIO, TextIO]]:
    out, err = real("stdout"), real("stderr")
    if not _is_on(out, 1) or not _is_on(err, 2):
        yield (out or _nowhere(), err or _nowhere())
        return
    assert out is not None
    assert err is not None
    out.flush()
    err.flush()
    mine_out, mine_err = _duplicate(out), _duplicate(err)
    os.dup2(2, 1)
    try:
        yield mine_out, mine_err
    finally:
        with contextlib.suppress(OSError, ValueError):  # a lab may have closed it
            out.flush()
        for mine, number, name in ((mine_out, 1, "stdout"), (mine_err, 2, "stderr")):
            with contextlib.suppress(OSError):
                mine.flush()
            os.dup2(mine.fileno(), number)
            _reopen(name, number, mine)
            with contextlib.suppress(OSError):
                mine.close()


def _is_on(stream: TextIO | None, number: int) -> bool:
    try:
        return stream is not None and stream.fileno() == number
    except (OSError, ValueError):
        return False


def _duplicate(stream: TextIO) -> TextIO:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return open(os.dup(stream.fileno()), "w", encoding=encoding, errors="replace", newline="")


def _reopen(name: str, number: int, like: TextIO) -> None:
    """Put a new stream where a lab has closed the one that stood there."""
    before = real(name)
    if before is None or not before.closed:
        return
    stream = open(number, "w", encoding=like.encoding, errors="replace", closefd=False)  # noqa: SIM115
    with _lock:
        if name in _real:
            _real[name] = stream
        else:
            setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")  # for a caller that has closed the stream
