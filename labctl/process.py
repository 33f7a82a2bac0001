"""The only place that starts a process.

Arguments are a list, never a shell line. Every program runs in a session of its own with a
time-out; it is ended politely (interrupt, terminate, kill) and as a whole group, so that
what it started ends too. Output is captured whole and can be followed line by line.
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from labctl import waiting
from labctl.errors import CommandFailed, CommandTimedOut, Interrupted, ToolMissing

GRACE_SECONDS = 5.0
"""How long a program may take to leave after each of interrupt and terminate."""


CANCEL_SECONDS = 0.2
"""How often a run that can be cancelled looks whether it is."""


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
    out: list[str] = []
    err: list[str] = []
    readers: list[threading.Thread] = []
    timed_out = False
    child = _start(argv, stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL, env=env, cwd=cwd)
    pipes = [_Pipe(stream) for stream in (child.stdout, child.stderr, child.stdin)]
    try:  # from here on an interrupt may come at any moment, and the program must not stay behind
        readers.append(_reader(pipes[0], lambda pipe: _drain(pipe, out, on_line)))
        readers.append(_reader(pipes[1], lambda pipe: _drain(pipe, err, on_line)))
        if stdin is not None:
            data = stdin.encode() if isinstance(stdin, str) else stdin
            readers.append(_reader(pipes[2], lambda pipe: _feed(pipe, data)))
        for reader in readers:
            reader.start()
        _wait(child, timeout, cancel)
    except subprocess.TimeoutExpired:
        timed_out = True
    finally:
        if child.poll() is None:
            end(child)
        _collect(readers, out, err)
        for pipe in pipes:
            pipe.close()
    stdout, stderr = "".join(out), "".join(err)
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
    """End a program of ours and its process group: interrupt, terminate, kill, each with a grace time."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        try:
            child.wait(timeout=GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        break
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


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


def _drain(stream: IO[bytes], into: list[str], on_line: Callable[[str], None] | None) -> None:
    with stream:
        for raw in stream:
            text = raw.decode("utf-8", "replace")
            into.append(text)
            if on_line:
                on_line(text.rstrip("\r\n"))


def _collect(readers: Sequence[threading.Thread], out: list[str], err: list[str]) -> None:
    """Wait for the readers while they still bring something.

    A grandchild may hold the pipes open after the program has left; it is not waited for.
    """
    for reader in readers:
        before = -1
        while reader.is_alive() and len(out) + len(err) != before:
            before = len(out) + len(err)
            reader.join(timeout=1.0)


def _feed(stream: IO[bytes], data: bytes) -> None:
    # A program may leave before it has read its input; its exit code tells that story.
    with contextlib.suppress(BrokenPipeError), stream:
        stream.write(data)


def _default_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
