"""The only place that starts a process.

Arguments are a list, never a shell line. Every program runs in a session of its own with a
time-out; it is ended politely (interrupt, terminate, kill) and as a whole group, so that
what it started ends too. Output is captured, within a bound, and can be followed line by line.
What a failure means is not decided here: see labctl.tools.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from labctl import waiting
from labctl.errors import CommandFailed, CommandTimedOut, Interrupted, ToolMissing

GRACE_SECONDS = 5.0
"""How long a program may take to leave after each of interrupt and terminate."""


CANCEL_SECONDS = 0.2
"""How often a run that can be cancelled looks whether it is."""

MOST_BYTES = 32 << 20
"""Of each stream of a program; what comes between its first and its last half is left out, and that is said there."""
PIECE_BYTES = 64 * 1024
"""A longer line is read, and heard, in pieces."""
QUIET_SECONDS = 1.0
"""After a program has left, its output is complete when so long nothing came."""
LATE_SECONDS = 10.0
"""How long after its end output may still come: a pipe holds 64 KiB, all else is a grandchild's."""

STOPS: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals by which labctl is asked to stop."""


@dataclass(frozen=True)
class Completed:
    """A program that has ended. ``seconds`` is wall time on the monotonic clock."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether the exit code is 0."""
        return self.exit_code == 0


def which(program: str) -> Path | None:
    """The absolute path of ``program`` as PATH finds it, or None."""
    found = shutil.which(program)
    return Path(found).resolve() if found else None


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    stdin: str | bytes | None = None,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    cancel: threading.Event | None = None,
) -> Completed:
    """Run ``argv`` to its end and return what it said.

    ``env`` is the whole environment (None: ours). ``on_line`` receives each line of both
    streams as it appears, without its newline, from a reader thread. Raises `ToolMissing`,
    `CommandTimedOut` after ``timeout`` seconds, and with ``check`` `CommandFailed` on a
    non-zero exit code. On KeyboardInterrupt or any other exception the program is ended first.
    An interrupt reaches the main thread only: other threads pass ``cancel``, and when it is set
    the program is ended and `Interrupted` raised; inside `labctl.waiting.cancellable` it is `Cancelled`.
    """
    started = time.monotonic()
    out, err = _Kept(on_line), _Kept(on_line)
    readers: list[threading.Thread] = []
    pipes: list[_Pipe] = []
    timed_out = False
    child: subprocess.Popen[bytes] | None = None
    try:  # an interrupt may come at any moment, and the program must not stay behind
        with _unbroken():
            given = subprocess.PIPE if stdin is not None else subprocess.DEVNULL
            child = _start(argv, stdin=given, env=env, cwd=cwd)
            pipes = [_Pipe(stream) for stream in (child.stdout, child.stderr, child.stdin)]
        readers.append(_reader(pipes[0], out.drain))
        readers.append(_reader(pipes[1], err.drain))
        if stdin is not None:
            data = stdin.encode() if isinstance(stdin, str) else stdin
            readers.append(_reader(pipes[2], lambda pipe: _feed(pipe, data)))
        for reader in readers:
            reader.start()
        _wait(child, timeout, cancel)
    except subprocess.TimeoutExpired:
        timed_out = True
    finally:
        try:
            if child is not None and child.poll() is None:
                end(child)
            _collect(readers, out, err, started + timeout)
        finally:
            for pipe in pipes:
                pipe.close()
    assert child is not None
    stdout, stderr = out.text(), err.text()
    if timed_out:
        raise CommandTimedOut(argv, timeout, stdout, stderr)
    done = Completed(tuple(argv), child.returncode, stdout, stderr, time.monotonic() - started)
    if check and not done.ok:
        raise CommandFailed(argv, done.exit_code, stdout, stderr)
    return done


def run_attached(argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> int:
    """Run ``argv`` on the user's own terminal, without a time-out, and return its exit code.

    Interrupts go to the program alone, as in a shell. Raises `ToolMissing`.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.call(list(argv), env=env, preexec_fn=_default_interrupt)
    except FileNotFoundError as missing:
        raise _missing(argv) from missing
    finally:
        signal.signal(signal.SIGINT, before)


def start_daemon(argv: Sequence[str], *, log: Path) -> int:
    """Start a program that outlives us, its output appended to ``log``; returns its process id.

    Raises `ToolMissing`. Nothing of ours stays open in it, so it cannot hold a caller's pipe.
    """
    with log.open("ab") as sink:
        try:
            daemon = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
                cwd="/",
            )
        except FileNotFoundError as missing:
            raise _missing(argv) from missing
    daemon.returncode = 0  # nobody waits for it, and Python must not complain about that
    return daemon.pid


def end(child: subprocess.Popen[bytes]) -> None:
    """End a program of ours and its process group: interrupt, terminate, kill, each with a grace time.

    An interrupt meanwhile ends the grace, not the work: the next, stronger signal comes at once, and the interrupt
    is raised when the program is gone.
    """
    again: KeyboardInterrupt | None = None
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            try:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, number)
                child.wait(timeout=GRACE_SECONDS)
                break
            except subprocess.TimeoutExpired:
                continue
            except KeyboardInterrupt as stop:
                again = stop
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        with _unbroken(), contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=QUIET_SECONDS)  # or it stays a zombie as long as we live
    if again is not None:
        raise again


@contextlib.contextmanager
def _unbroken() -> Iterator[None]:
    """A block of a moment, which no signal cuts in two: one that comes is heard at its end.

    Python's own handlers stand in, because what is ignored or masked here would stay so in a child.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    came: list[int] = []
    former = {number: signal.getsignal(number) for number in STOPS}
    try:
        for number, handler in former.items():
            if callable(handler):
                signal.signal(number, lambda got, _: came.append(got))
        yield
    finally:
        for number, handler in former.items():
            if callable(handler):
                signal.signal(number, handler)
        if came and callable(first := former[signal.Signals(came[0])]):
            first(came[0], None)


def _start(
    argv: Sequence[str], *, stdin: int, env: Mapping[str, str] | None, cwd: Path | None
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env) if env is not None else None,
            cwd=cwd,
            start_new_session=True,
        )
    except FileNotFoundError as missing:
        if cwd is not None and not cwd.is_dir():
            raise
        raise _missing(argv) from missing
    except PermissionError as refused:
        raise ToolMissing(
            f"`{argv[0]}` cannot be started", why=str(refused), next_step="make the file executable"
        ) from refused


def _missing(argv: Sequence[str]) -> ToolMissing:
    return ToolMissing(
        f"`{argv[0]}` was not found",
        why="no such program on PATH",
        next_step="run `labctl doctor` to see what this machine lacks",
    )


def _wait(child: subprocess.Popen[bytes], timeout: float, cancel: threading.Event | None) -> None:
    ours = cancel or waiting.cancel_event()
    if ours is None:
        child.wait(timeout=timeout)
        return
    end_of_time = time.monotonic() + timeout
    while True:
        left = end_of_time - time.monotonic()
        try:
            child.wait(timeout=max(0.0, min(CANCEL_SECONDS, left)))
            return
        except subprocess.TimeoutExpired:
            if ours.is_set():
                raise (Interrupted if cancel is not None else waiting.Cancelled) from None
            if left <= 0:
                raise


class _Kept:
    """What a program says on one stream: its beginning and its end, in at most `MOST_BYTES`."""

    def __init__(self, on_line: Callable[[str], None] | None) -> None:
        self._on_line = on_line
        self._lock = threading.Lock()
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._in_tail = 0
        self._closed = False
        self.seen = 0

    def drain(self, stream: IO[bytes]) -> None:
        """Read ``stream`` to its end. What comes after `text` is read as well, so that nobody hangs, and dropped."""
        with stream:
            for piece in iter(lambda: stream.readline(PIECE_BYTES), b""):
                if self._keep(piece) and self._on_line:
                    self._on_line(piece.decode("utf-8", "replace").rstrip("\r\n"))

    def text(self) -> str:
        """All that was kept; nothing more is."""
        with self._lock:
            self._closed = True
            gone = self.seen - len(self._head) - self._in_tail
            between = f"\n... [{gone} bytes left out] ...\n".encode() if gone else b""
            return b"".join((bytes(self._head), between, *self._tail)).decode("utf-8", "replace")

    def _keep(self, piece: bytes) -> bool:
        with self._lock:
            if self._closed:
                return False
            self.seen += len(piece)
            half = MOST_BYTES // 2
            if len(self._head) < half:
                self._head += piece
                return True
            self._tail.append(piece)
            self._in_tail += len(piece)
            while self._in_tail - len(self._tail[0]) >= half:
                self._in_tail -= len(self._tail.popleft())
            return True


class _Pipe:
    """A pipe of a program, closed by the one who takes it first: its thread, or we where that never ran.

    An interrupt can come while a thread is being started: then nobody can tell whether it will run.
    """

    def __init__(self, stream: IO[bytes] | None) -> None:
        self.stream = stream
        self._taken = threading.Lock()

    def take(self) -> IO[bytes] | None:
        """The stream for the first who asks, else None."""
        return self.stream if self._taken.acquire(blocking=False) else None

    def close(self) -> None:
        """Close it, unless its thread has taken it."""
        stream = self.take()
        if stream is not None:
            stream.close()


def _reader(pipe: _Pipe, work: Callable[[IO[bytes]], None]) -> threading.Thread:
    def run() -> None:
        stream = pipe.take()
        if stream is not None:
            work(stream)

    return threading.Thread(target=run, daemon=True)


def _collect(readers: Sequence[threading.Thread], out: _Kept, err: _Kept, until: float) -> None:
    """Wait for the readers while they still bring something, not long beyond the moment ``until``.

    A grandchild may hold the pipes open after the program has left, and print into them; it is not waited for.
    """
    last = max(time.monotonic() + QUIET_SECONDS, min(until, time.monotonic() + LATE_SECONDS))
    for reader in readers:
        before = -1
        while reader.is_alive() and out.seen + err.seen != before and time.monotonic() < last:
            before = out.seen + err.seen
            reader.join(timeout=QUIET_SECONDS)


def _feed(stream: IO[bytes], data: bytes) -> None:
    # A program may leave before it has read its input; its exit code tells that story.
    with contextlib.suppress(BrokenPipeError), stream:
        stream.write(data)


def _default_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
