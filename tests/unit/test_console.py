"""Data on stdout, narration on stderr, and both readable on the poorest terminal."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os

import pytest

from labctl.console import DETAIL_LINES, Console
from labctl.errors import HostError


def consoles(encoding: str = "utf-8") -> tuple[Console, io.TextIOWrapper, io.TextIOWrapper]:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    err = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    return Console(out=out, err=err), out, err


def read(stream: io.TextIOWrapper) -> str:
    stream.flush()
    raw = stream.buffer
    assert isinstance(raw, io.BytesIO)
    return raw.getvalue().decode(stream.encoding)


def test_json_mode_prints_one_document_and_nothing_else_on_stdout() -> None:
    console, out, err = consoles()
    console.format = "json"
    with console.step("Create nodes") as step:
        step.note("1/3 ready")
    console.data({"name": "three", "term": "파드"}, lambda: "never shown")
    assert json.loads(read(out)) == {"name": "three", "term": "파드"}
    assert "Create nodes" in read(err)


def test_an_error_after_the_data_leaves_one_document_on_stdout() -> None:
    console, out, err = consoles()
    console.format = "json"
    console.data({"deleted": ["one"]})
    console.error(HostError("the other stays", next_step="again"))
    assert json.loads(read(out)) == {"deleted": ["one"]}
    assert "the other stays" in read(err)


def test_a_reader_who_left_ends_the_narration_and_nothing_else() -> None:
    class Closed(io.TextIOWrapper):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    console = Console(out=None, err=Closed(io.BytesIO()))
    console.say("nobody reads this")
    with console.step("nor this") as step:
        step.note("waiting")
    console.error(HostError("nor this"))


def test_the_bundle_is_the_last_line_of_an_error() -> None:
    console, _, err = consoles()
    error = HostError("broken", details="much\nmore")
    error.bundle = "/state/bundle"
    console.error(error)
    assert read(err).splitlines()[-1].endswith("/state/bundle")


def test_a_step_without_a_terminal_is_one_line_per_new_note_and_one_at_its_end() -> None:
    console, out, err = consoles()
    with console.step("Nodes ready") as step:
        step.note("0/3")
        step.note("0/3")
        step.note("2/3")
        step.result("3 of 3")
    lines = [line.strip() for line in read(err).splitlines()]
    assert lines[:2] == ["Nodes ready: 0/3", "Nodes ready: 2/3"]
    assert lines[2].startswith("✓ Nodes ready: 3 of 3  0.")
    assert len(lines) == 3
    assert read(out) == ""


def test_a_step_that_raises_is_marked_failed_and_the_exception_goes_on() -> None:
    console, _, err = consoles()
    with pytest.raises(ValueError, match="broken"), console.step("Load balancer"):
        raise ValueError("broken")
    assert "✗ Load balancer" in read(err)


def test_an_ascii_terminal_gets_ascii_marks_and_no_exception() -> None:
    console, out, err = consoles("ascii")
    with console.step("Nodes"):
        pass
    console.raw("파드")
    assert read(err).lstrip().startswith("+ Nodes")
    assert read(out) == "??\n"


def test_an_error_is_what_why_next_and_the_end_of_its_details() -> None:
    console, out, err = consoles()
    details = "\n".join(f"line {n}" for n in range(DETAIL_LINES + 5))
    console.error(HostError("no docker", why="no socket", next_step="labctl host prepare", details=details))
    lines = read(err).splitlines()
    assert lines[0] == "error: no docker  [host-not-ready]"
    assert lines[1] == "  why:  no socket"
    assert lines[2] == "  next: labctl host prepare"
    assert lines[3] == "  ... 5 line(s) above left out"
    assert lines[-1] == f"  | line {DETAIL_LINES + 4}"
    assert read(out) == ""


def test_an_error_in_json_mode_is_a_document_with_everything() -> None:
    console, out, _ = consoles()
    console.format = "json"
    console.error(HostError("no docker", why="no socket", next_step="prepare", details="all of it"))
    assert json.loads(read(out)) == {
        "error": {
            "id": "host-not-ready",
            "exit_code": 3,
            "what": "no docker",
            "why": "no socket",
            "next_step": "prepare",
            "details": "all of it",
        }
    }


def test_markup_in_foreign_text_is_shown_and_not_obeyed() -> None:
    console, _, err = consoles()
    console.say("[red]not ours[/red] :smile:")
    assert "[red]not ours[/red] :smile:" in read(err)


def test_without_a_terminal_a_question_is_answered_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    console, _, _ = consoles()
    assert console.confirm("Install docker?") is False


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO, errno.ENOSPC])
def test_no_narration_is_worth_an_error(number: int) -> None:
    class Gone(io.TextIOWrapper):
        def write(self, _: str) -> int:
            raise OSError(number, os.strerror(number))

    console = Console(err=Gone(io.BytesIO()))
    with console.step("still to be cleaned up"):
        console.say("so much")
    console.error(HostError("nobody reads this"))


@pytest.mark.parametrize(
    ("number", "heard"), [(errno.EPIPE, False), (errno.EIO, False), (errno.ENOSPC, True)]
)
def test_a_result_that_cannot_be_kept_is_an_error_and_a_reader_that_left_is_none(
    number: int, heard: bool
) -> None:
    class Gone(io.StringIO):
        def flush(self) -> None:
            raise OSError(number, os.strerror(number))

    console = Console(out=Gone())
    with pytest.raises(OSError, match="No space") if heard else contextlib.nullcontext():
        console.data("a result")
