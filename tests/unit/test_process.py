"""The only place that starts processes: time-outs, whole groups, live lines, huge output, missing ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from labctl import process
from labctl.errors import CommandFailed, CommandTimedOut, Interrupted, ToolMissing
from labctl.waiting import NotYet, until

SHORT = 0.8
"""A time-out that is meant to pass; a shell on a busy machine has said its first word by then."""


def sh(script: str, *, timeout: float = 10, **options: object) -> process.Completed:
    return process.run(["sh", "-c", script], timeout=timeout, **options)  # type: ignore[arg-type]  # run's own


def gone(pid: int) -> None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    if state != "Z":
        raise NotYet(f"process {pid} is in state {state}")


def test_what_a_program_said_and_how_it_ended() -> None:
    done = sh("echo out; echo err >&2; exit 3", check=False)
    assert (done.exit_code, done.stdout, done.stderr, done.ok) == (3, "out\n", "err\n", False)
    assert 0 <= done.seconds < 10
    assert done.argv == ("sh", "-c", "echo out; echo err >&2; exit 3")


def test_a_failure_carries_argv_exit_code_and_output() -> None:
    with pytest.raises(CommandFailed) as caught:
        sh("echo one; echo two >&2; exit 7")
    error = caught.value
    assert (error.returncode, error.stdout, error.stderr) == (7, "one\n", "two\n")
    assert error.why == "two"
    assert "exit 7" in error.what


def test_a_program_ended_by_a_signal_has_a_negative_exit_code() -> None:
    assert sh("kill -9 $$", check=False).exit_code == -signal.SIGKILL


def test_arguments_are_never_a_shell_line() -> None:
    assert process.run(["echo", "$HOME; `id` *"], timeout=10).stdout == "$HOME; `id` *\n"


def test_a_missing_program_is_named() -> None:
    with pytest.raises(ToolMissing) as caught:
        process.run(["no-such-program"], timeout=10)
    assert "no-such-program" in caught.value.what


def test_a_program_that_may_not_be_started_is_named(tmp_path: Path) -> None:
    program = tmp_path / "locked"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o644)
    with pytest.raises(ToolMissing):
        process.run([str(program)], timeout=10)


def test_a_missing_working_directory_is_not_a_missing_program(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        process.run(["true"], timeout=10, cwd=tmp_path / "nowhere")


def test_a_time_out_ends_the_program_and_keeps_its_output() -> None:
    started = time.monotonic()
    with pytest.raises(CommandTimedOut) as caught:
        sh("echo started; exec sleep 60", timeout=SHORT)
    assert time.monotonic() - started < 5
    assert caught.value.stdout == "started\n"
    assert caught.value.exit_code == 5


def test_a_time_out_ends_grandchildren_too() -> None:
    with pytest.raises(CommandTimedOut) as caught:
        sh("sleep 60 & echo $!; wait", timeout=SHORT)
    pid = int(caught.value.stdout)
    until(lambda: gone(pid), what="grandchild gone", within=5, every=0.02)


def test_a_program_that_ignores_politeness_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.2)
    with pytest.raises(CommandTimedOut) as caught:
        sh("trap '' INT TERM; echo $$; while :; do sleep 0.05; done", timeout=SHORT)
    until(lambda: gone(int(caught.value.stdout)), what="killed", within=5, every=0.02)


def test_a_program_may_leave_by_itself_when_interrupted() -> None:
    script = "trap 'echo cleaned; exit 0' INT; echo ready; while :; do sleep 0.02; done"
    with pytest.raises(CommandTimedOut) as caught:
        sh(script, timeout=SHORT)
    assert caught.value.stdout.splitlines()[-1] == "cleaned"


def test_an_interrupt_ends_the_program_first() -> None:
    pids: list[int] = []

    def heard(line: str) -> None:
        pids.append(int(line))
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        sh("echo $$; exec sleep 60", timeout=60, on_line=heard)
    until(lambda: gone(pids[0]), what="gone", within=5, every=0.02)


def test_an_interrupt_while_a_reader_starts_leaves_no_reader_on_a_closed_pipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The thread runs although its `start` was cut short, and finds that its pipe is not its own any more."""
    late: list[threading.Thread] = []
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        late.append(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sh("echo said", timeout=60)
    monkeypatch.setattr(threading.Thread, "start", start)
    for thread in late:
        thread.start()
        thread.join(5)  # whatever it raised would fail this test


def test_a_second_interrupt_while_a_program_is_ended_hastens_its_end_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It brings the next, stronger word; the program, which ignores all that it can, is gone at the end."""
    monkeypatch.setattr(process, "GRACE_SECONDS", 3.0)
    heard_of: list[str] = []
    ignores = "trap 'echo no' INT TERM; echo $$; while :; do sleep 0.05; done"

    def heard(line: str) -> None:
        heard_of.append(line)
        if len(heard_of) <= 2:  # that it runs, and that it does not care; no third may come when all is over
            os.kill(os.getpid(), signal.SIGINT)

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        sh(ignores, timeout=60, on_line=heard)
    assert time.monotonic() - started < 2 * process.GRACE_SECONDS
    assert not Path(f"/proc/{heard_of[0]}").exists(), "not even a zombie"


def test_an_interrupt_while_a_program_starts_ends_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the fork and the moment in which we know of the child nobody else could end it."""
    popen = subprocess.Popen
    children: list[Any] = []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        children.append(popen(*arguments, **options))
        signal.raise_signal(signal.SIGINT)
        return children[0]

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sh("exec sleep 60", timeout=60)
    until(lambda: gone(children[0].pid), what="gone", within=5, every=0.02)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_run_in_a_thread_can_be_cancelled() -> None:
    cancel = threading.Event()
    pids: list[int] = []

    def heard(line: str) -> None:
        pids.append(int(line))
        cancel.set()

    started = time.monotonic()
    with pytest.raises(Interrupted):
        sh("echo $$; exec sleep 60", timeout=60, on_line=heard, cancel=cancel)
    assert time.monotonic() - started < 5
    until(lambda: gone(pids[0]), what="gone", within=5, every=0.02)


def test_a_run_that_could_be_cancelled_still_times_out() -> None:
    with pytest.raises(CommandTimedOut):
        sh("exec sleep 60", timeout=SHORT, cancel=threading.Event())
    assert sh("echo x", cancel=threading.Event()).stdout == "x\n"


def test_a_grandchild_that_keeps_the_pipes_open_does_not_hold_us() -> None:
    started = time.monotonic()
    done = sh("sleep 30 & echo $!; echo done")
    os.kill(int(done.stdout.split()[0]), signal.SIGKILL)
    assert done.stdout.endswith("done\n")
    assert time.monotonic() - started < 10


CHATTERS = "sh -c 'trap \"\" INT TERM; while :; do echo x || exit; sleep 0.1; done' &"


def test_a_grandchild_that_goes_on_printing_does_not_hold_us() -> None:
    started = time.monotonic()
    done = sh(f"{CHATTERS} echo $!", timeout=1)
    pid = next(int(line) for line in done.stdout.split() if line.isdigit())
    try:
        assert done.ok
        assert time.monotonic() - started < 4
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_grandchild_that_has_left_the_group_does_not_hold_a_time_out(tmp_path: Path) -> None:
    """It is in a session of its own, so no signal of ours reaches it."""
    own_session = (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    print(os.getpid(), flush=True)\n"
        "    while True: print('x', flush=True); time.sleep(0.05)\ntime.sleep(60)\n"
    )
    heard: list[str] = []
    started = time.monotonic()
    with pytest.raises(CommandTimedOut) as caught:
        process.run([sys.executable, "-c", own_session], timeout=SHORT, on_line=heard.append)
    try:
        assert time.monotonic() - started < SHORT + 3
        known = len(heard)
        assert known >= len(caught.value.stdout.splitlines())
        time.sleep(0.3)  # it prints on, which nobody is told any more
        assert len(heard) == known
    finally:
        os.kill(int(caught.value.stdout.split()[0]), signal.SIGKILL)


def test_output_beyond_the_bound_keeps_its_beginning_and_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MOST_BYTES", 400_000)
    done = sh("echo first; head -c 5000000 /dev/zero | tr '\\0' x; echo; echo last")
    assert done.stdout.startswith("first\nxxx")
    assert done.stdout.endswith("xxx\nlast\n")
    assert "bytes left out" in done.stdout
    assert 400_000 <= len(done.stdout) < 600_000


def test_a_line_without_an_end_takes_no_more_memory_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MOST_BYTES", 1_000_000)
    tracemalloc.start()
    try:
        sh("head -c 60000000 /dev/zero | tr '\\0' x", timeout=60)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_characters_are_whole_wherever_the_output_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "PIECE_BYTES", 7)
    assert process.run(["cat"], timeout=10, stdin="파드 — é\n" * 50).stdout == "파드 — é\n" * 50


def test_lines_are_heard_while_the_program_runs(tmp_path: Path) -> None:
    go = tmp_path / "go"
    heard: list[str] = []

    def listen(line: str) -> None:
        heard.append(line)
        if line == "first":
            go.touch()  # the program ends only because this was heard while it ran

    sh(f"echo first; until [ -e {go} ]; do sleep 0.02; done; echo second >&2; printf third", on_line=listen)
    assert heard[0] == "first"
    assert sorted(heard) == ["first", "second", "third"]


def test_huge_output_neither_blocks_nor_is_cut() -> None:
    done = sh("head -c 3000000 /dev/zero | tr '\\0' x; head -c 3000000 /dev/zero | tr '\\0' y >&2")
    assert len(done.stdout) == len(done.stderr) == 3_000_000


def test_output_that_is_no_utf8_is_kept_readable() -> None:
    assert sh("printf 'a\\377b\\n'").stdout == "a\ufffdb\n"


def test_stdin_is_handed_over_and_otherwise_empty() -> None:
    assert process.run(["cat"], timeout=10, stdin="text ü").stdout == "text ü"
    assert process.run(["cat"], timeout=10, stdin=b"\x00\x01").stdout == "\x00\x01"
    assert process.run(["cat"], timeout=10).stdout == ""


def test_a_program_that_does_not_read_its_input_is_no_error() -> None:
    assert sh("exit 0", stdin="x" * 3_000_000).ok
    assert sh("exec <&-; echo still; exit 4", stdin="x" * 3_000_000, check=False).exit_code == 4


def test_the_environment_is_ours_or_exactly_the_given_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARK", "ours")
    assert sh('echo "$MARK"').stdout == "ours\n"
    path = os.environ["PATH"]
    assert sh('echo "$MARK-$OTHER"', env={"PATH": path, "OTHER": "given"}).stdout == "-given\n"


def test_no_thread_stays_behind() -> None:
    before = threading.active_count()
    sh("echo x", stdin="y")
    assert threading.active_count() == before


def test_a_daemon_outlives_the_call_and_writes_to_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    pid = process.start_daemon(["sh", "-c", "echo said; echo warned >&2; pwd; exec sleep 60"], log=log)
    try:

        def said() -> None:
            if "/\n" not in log.read_text():
                raise NotYet(log.read_text())

        until(said, what="daemon said", within=5, every=0.02)
        assert log.read_text() == "before\nsaid\nwarned\n/\n"
        assert os.getsid(pid) == pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_missing_daemon_is_named(tmp_path: Path) -> None:
    with pytest.raises(ToolMissing):
        process.start_daemon(["no-such-daemon"], log=tmp_path / "log")


def test_an_attached_program_gives_its_exit_code_and_takes_the_interrupt_alone() -> None:
    handler = signal.getsignal(signal.SIGINT)
    assert process.run_attached(["sh", "-c", "exit 6"]) == 6
    assert (
        process.run_attached(["sh", "-c", f"kill -INT {os.getpid()}; kill -INT $$; sleep 5"])
        == -signal.SIGINT
    )
    assert signal.getsignal(signal.SIGINT) is handler
    with pytest.raises(ToolMissing):
        process.run_attached(["no-such-program"])


def test_which_resolves_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").write_text("#!/bin/sh\n")
    (tmp_path / "real").chmod(0o755)
    (tmp_path / "link").symlink_to("real")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert process.which("link") == tmp_path / "real"
    assert process.which("nothing") is None
