"""Several things under way at once: every line whole, the terminal clean, nothing lost."""

from __future__ import annotations

import io
import os
import pty
import re
import threading
from collections.abc import Iterator

import pytest

from labctl.console import Console
from labctl.live import Bar, Region, Row
from labctl.progress import Progress, Quiet
from labctl.recorder import Recorder

THREADS, STEPS = 8, 25


class Text(io.StringIO):
    encoding = "utf-8"


def work(progress: Progress, threads: int = THREADS, steps: int = STEPS) -> None:
    def lab(number: int) -> None:
        start.wait()
        for step in range(steps):
            with progress.step(f"{number:02d} step {step}") as shown:
                shown.note(f"note {step}")
                with progress.step("inner"):
                    pass
                shown.result(f"{step} done")
        overall.advance()

    start = threading.Barrier(threads)
    with progress.overall(threads, "labs") as overall:
        workers = [threading.Thread(target=lab, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()


class Terminal:
    """A terminal of 24 lines, and all that was written to it."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        self.stream = os.fdopen(slave, "w", encoding="utf-8")
        self._seen: list[bytes] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._master, 65536)
            except OSError:  # the other end is closed and all is read
                return
            self._seen.append(piece)

    def close(self) -> str:
        self.stream.close()
        self._reader.join()
        os.close(self._master)
        return b"".join(self._seen).decode()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm")
    made = Terminal()
    yield made
    if not made.stream.closed:
        made.close()


def lines(seen: str) -> list[str]:
    """What stays on the screen: finished lines without the controls around them."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
    return [line.rsplit("\r", 1)[-1].strip() for line in text.replace("\r\n", "\n").split("\n")]


def test_lines_of_many_threads_are_whole_and_none_is_lost() -> None:
    err = Text()
    work(Console(out=Text(), err=err))
    said = err.getvalue().splitlines()
    finished = re.compile(r" ✓ \d\d step \d+: (\d+ done|inner)  0\.\d s")
    noted = re.compile(r"     \d\d step \d+: note \d+")
    assert all(finished.fullmatch(line) or noted.fullmatch(line) for line in said)
    assert len(said) == THREADS * STEPS * 3


def test_a_terminal_keeps_each_finished_line_once_and_its_cursor(terminal: Terminal) -> None:
    console = Console(out=Text(), err=terminal.stream)
    work(console, threads=4, steps=5)
    seen = terminal.close()
    done = [line for line in lines(seen) if re.fullmatch(r"✓ \d\d step \d: \d done  0\.\d s", line)]
    assert sorted(line.split(":")[0] for line in done) == sorted(
        f"✓ {number:02d} step {step}" for number in range(4) for step in range(5)
    )
    assert seen.rfind("\x1b[?25h") > seen.rfind("\x1b[?25l") >= 0


def test_each_step_under_way_has_a_line_and_the_whole_a_bar(terminal: Terminal) -> None:
    console = Console(out=Text(), err=terminal.stream)
    with console.overall(3, "labs") as overall, console.step("09 outer"), console.step("inner") as step:
        step.note("2 of 3")
        overall.advance(2)
        console.say("a remark")  # draws the region anew
    seen = terminal.close()
    shown = seen[seen.index("a remark") :]
    assert re.search(r"09 outer.*\r\n.*inner.*2 of 3.*\r\n.*labs.*2/3", shown)


def test_a_result_and_a_question_take_the_region_away(terminal: Terminal) -> None:
    console = Console(out=terminal.stream, err=terminal.stream)
    with console.step("09 waits"):
        console.data("the result")
    seen = terminal.close()
    before = seen[: seen.index("the result")]
    assert before.rfind("\x1b[?25h") > before.rfind("09 waits")  # taken away first
    assert "09 waits" in seen[seen.index("the result") :]  # and back again


def test_a_console_that_is_closed_in_the_middle_gives_the_terminal_back(terminal: Terminal) -> None:
    console = Console(out=Text(), err=terminal.stream)
    entered, leave = threading.Event(), threading.Event()

    def hang() -> None:
        with console.step("stays"):
            entered.set()
            leave.wait()

    other = threading.Thread(target=hang)
    other.start()
    entered.wait()
    console.close()
    leave.set()
    other.join()
    with console.step("comes too late"):
        pass
    seen = terminal.close()
    assert "\x1b[?25l" in seen
    assert "\x1b[?25l" not in seen[seen.rfind("\x1b[?25h") :]


def test_a_terminal_that_cannot_be_drawn_on_gets_lines(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    console = Console(out=Text(), err=terminal.stream)
    with console.step("Nodes") as step:
        step.note("1 of 2")
    seen = terminal.close()
    assert "Nodes: 1 of 2" in seen
    assert "\x1b[?25l" not in seen


def test_quiet_shows_failures_only() -> None:
    err = Text()
    console = Console(out=Text(), err=err)
    console.quiet = True
    work(console, threads=2, steps=2)
    with pytest.raises(ValueError, match="no"), console.step("bad"):
        raise ValueError("no")
    assert re.fullmatch(r" ✗ bad  0\.\d s\n", err.getvalue())


def test_the_region_follows_what_is_added_and_removed() -> None:
    from rich.console import Console as RichConsole

    rich = RichConsole(file=Text(), force_terminal=True, width=80)
    region = Region(lambda: rich, threading.RLock(), ascii_only=lambda: True)
    first, second, inner = Row("first"), Row("second"), Row("inner", depth=1)
    for row, within in ((first, None), (second, None), (inner, first)):
        region.add(row, within)
    region.add_bar(Bar("labs", 4, done=1))
    with rich.capture() as drawn:
        region.draw()
    region.close()
    assert re.findall(r"first|second|inner|labs|1/4", drawn.get()) == [
        "first",
        "inner",
        "second",
        "labs",
        "1/4",
    ]


def test_a_recorder_keeps_every_step_of_every_thread() -> None:
    recorder = Recorder(Quiet())
    taken: list[str] = []
    stop = threading.Event()

    def take() -> None:
        while not stop.wait(0.001):
            taken.extend(record.title for record in recorder.take())

    taker = threading.Thread(target=take)
    taker.start()
    work(recorder)
    stop.set()
    taker.join()
    taken.extend(record.title for record in recorder.take())
    assert len(taken) == THREADS * STEPS * 2
    assert taken.count("00 step 0") == 1
