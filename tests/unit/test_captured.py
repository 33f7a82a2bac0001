"""What other people's code prints is narration; a result's stream stays the console's alone."""

from __future__ import annotations

import contextvars
import io
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from labctl import captured as under_test
from labctl.captured import LINES, captured

ROOT = Path(__file__).parents[2]


def test_each_thread_is_heard_by_its_own_capture() -> None:
    heard: dict[int, list[str]] = {number: [] for number in range(8)}
    start = threading.Barrier(len(heard))

    def lab(number: int) -> None:
        with captured(heard[number].append):
            start.wait()
            for line in range(50):
                print(number, line)
                print(number, "error", line, file=sys.stderr)
            sys.stdout.write("without an end")

    workers = [threading.Thread(target=lab, args=(number,)) for number in heard]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for number, lines in heard.items():
        said = [text for line in range(50) for text in (f"{number} {line}", f"{number} error {line}")]
        assert lines == [*said, "without an end"]


def test_the_streams_are_as_they_were(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with captured(lambda _: None):
        sys.stdout = io.StringIO()
    assert (sys.stdout, sys.stderr) == before
    print("heard by nobody else")
    assert capsys.readouterr().out == "heard by nobody else\n"


def test_a_lab_can_neither_close_nor_keep_the_streams(capsys: pytest.CaptureFixture[str]) -> None:
    first: list[str] = []
    second: list[str] = []
    with captured(first.append):
        sys.stdout.close()
        sys.stderr.close()
        print("still heard")
        sys.stdout = io.StringIO()
        with captured(second.append):
            print("the next one is heard, too")
    print("after")
    assert (first, second) == (["still heard"], ["the next one is heard, too"])
    assert capsys.readouterr().out == "after\n"


def test_bytes_and_pieces_of_lines_are_heard() -> None:
    heard: list[str] = []
    with captured(heard.append):
        sys.stdout.buffer.write("파드\r\n".encode())
        for piece in ("a", "b\nc", "\n"):
            sys.stdout.write(piece)
    assert heard == ["파드", "ab", "c"]


def test_a_thread_started_inside_is_heard_by_the_only_capture() -> None:
    heard: list[str] = []
    with captured(heard.append):
        child = threading.Thread(target=print, args=("from a child",))
        child.start()
        child.join()
    assert heard == ["from a child"]


def test_a_thread_that_carries_the_context_is_heard_among_several() -> None:
    mine: list[str] = []
    other: list[str] = []
    entered, leave = threading.Event(), threading.Event()

    def beside() -> None:
        with captured(other.append):
            entered.set()
            leave.wait()

    neighbour = threading.Thread(target=beside)
    neighbour.start()
    entered.wait()
    with captured(mine.append):
        child = threading.Thread(target=contextvars.copy_context().run, args=(print, "mine"))
        child.start()
        child.join()
    leave.set()
    neighbour.join()
    assert (mine, other) == (["mine"], [])


def test_a_flood_is_cut_and_counted() -> None:
    heard: list[str] = []
    with captured(heard.append):
        for line in range(LINES + 7):
            print(line)
        sys.stdout.write("x" * (3 * under_test.LINE_CHARACTERS))
    assert len(heard) == LINES + 1
    assert heard[-1] == "... 10 more line(s) left out"


def test_a_listener_that_prints_is_not_heard_again(capsys: pytest.CaptureFixture[str]) -> None:
    with captured(lambda line: print("listener:", line)):
        print("once")
    assert "once" in capsys.readouterr().out


# --- in a process of its own: the descriptors --------------------------------------

PROGRAM = """
import os, subprocess, sys
from labctl.captured import captured
from labctl.console import Console

console = Console()
console.format = "json"
with console.apart():
    with captured(lambda line: console.say("lab: " + line)):
        {lab}
    console.data({{"passed": True}})
print("after", file=sys.stderr)
sys.stdout.write("\\n")
"""


@pytest.mark.parametrize(
    ("lab", "heard"),
    [
        ("print('50%')", "lab: 50%"),
        ("print('50%', file=sys.stderr)", "lab: 50%"),
        ("os.write(1, b'50%\\n')", "50%"),
        ("os.system('echo 50%')", "50%"),
        ("subprocess.run(['echo', '50%'])", "50%"),
        ("subprocess.run(['echo', '50%'], stdout=sys.stdout)", "50%"),
        ("sys.__stdout__.write('50%\\n')", "50%"),
        ("sys.stdout.close(); sys.stderr.close()", ""),
        ("sys.__stdout__.close(); sys.__stderr__.close()", ""),
        ("os.close(1); os.close(2)", ""),
        ("sys.stdout = sys.stderr = None", ""),
        ("os.dup2(os.open(os.devnull, os.O_WRONLY), 1)", ""),
    ],
)
def test_whatever_a_lab_writes_stdout_is_one_document(lab: str, heard: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(lab=lab)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {"passed": True}
    assert heard in ran.stderr
    assert ran.stderr.endswith("after\n")


@pytest.mark.parametrize("closed", ["2>&-", "2>&- <&-", ">&- 2>&-"])
def test_a_stream_that_the_caller_closed_changes_no_exit_code(closed: str) -> None:
    ran = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m labctl up --workers=99 {closed}"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (2, "", "")
