"""The only writer: data on stdout, narration and progress on stderr.

What a user reads survives without colour, without a terminal and without UTF-8. In JSON
mode stdout carries one JSON document and nothing else. This module decides nothing:
it knows what a step and an error look like, not what they mean.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TextIO, cast

from labctl import shown
from labctl.captured import real, streams_apart
from labctl.errors import LabctlError
from labctl.live import Bar, Region, Row

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.console import ConsoleOptions
    from rich.segment import Segment

Format = Literal["text", "json"]

MARKS = {"done": ("✓", "+"), "failed": ("✗", "x"), "said": ("·", "-")}
"""Each mark with its stand-in for terminals that cannot show it."""

DETAIL_LINES = 40
"""How much captured output an error shows; the whole of it goes into the bundle."""

JSON_TEXT, JSON_BYTES = 256 * 1024, 8 * 1024 * 1024
"""The most that a JSON document holds: characters of one text, and bytes of the whole."""

LEFT = frozenset({errno.EPIPE, errno.EIO})
"""What a write fails with when its reader has left, or the terminal was closed: no fault of the result's."""


class Console:
    """Where everything that labctl shows goes out; it is a `labctl.progress.Progress`.

    Any thread may call it at any time. Whatever is shown is cleaned and, but for results, bounded by labctl.shown.
    """

    def __init__(self, *, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.format: Format = "text"
        self.quiet = False
        self.colour = "NO_COLOR" not in os.environ
        self._out = out
        self._err = err
        self._has_data = False
        self._narration: RichConsole | None = None
        self._lock = threading.RLock()
        self._mine = threading.local()
        self._region = Region(
            self._rich, self._lock, ascii_only=lambda: self._mark("done") != MARKS["done"][0]
        )

    # --- data -----------------------------------------------------------------

    def data(self, value: Any, render: Callable[[], Any] | None = None) -> None:
        """Write a result: ``value`` (JSON-able) in JSON mode, else what ``render`` returns (text or a rich object).

        In JSON mode texts are cut to `JSON_TEXT` characters, and shorter where the document would be larger
        than `JSON_BYTES`.
        """
        self._has_data = True
        if self.format == "json":
            self._write(shown.fitted(value, shown.as_json, text=JSON_TEXT, whole=JSON_BYTES))
        elif render is None:
            self._render(f"{value}\n")
        else:
            self._render(render())

    def piece(self, render: Callable[[], Any]) -> None:
        """Write a part of the result ahead of the whole, for people; in JSON mode it comes with the document only."""
        if self.format != "json":
            self._render(render())

    def raw(self, text: str) -> None:
        """Write ``text`` of labctl's own making to stdout as it is, in either mode (a path, a schema)."""
        self._write(text if text.endswith("\n") else text + "\n")

    def confirm(self, question: str) -> bool:
        """Ask on the terminal; anything but yes, and no terminal at all, is no."""
        if not sys.stdin or not sys.stdin.isatty():
            return False
        with self._lock, self._region.paused():
            stream = self._stderr()
            stream.write(f"{shown.cut(shown.clean(question), shown.ON_TERMINAL)} [y/N] ")
            stream.flush()
            return sys.stdin.readline().strip().lower() in {"y", "yes"}

    # --- narration ------------------------------------------------------------

    def say(self, text: str) -> None:
        """A remark on stderr."""
        if not self.quiet:
            self._line("said", text)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[_Step]:
        """Show a step while it is under way and, when it ends, its outcome and its seconds.

        A step inside another one of the same thread is shown below it, and named after it when it ends.
        """
        step = _Step(self, title)
        with step:
            yield step

    @contextlib.contextmanager
    def overall(self, total: int, title: str) -> Iterator[_Overall]:
        """Show on a terminal how many of ``total`` pieces of work are done."""
        overall = _Overall(self, Bar(title, total))
        with overall:
            yield overall

    def guide(self, text: str) -> None:
        """Help for somebody who gave no command: on stderr, whatever else is quiet."""
        self._tell(text)

    def error(self, error: LabctlError) -> None:
        """Show an error once: what, why, what to do next, then the details.

        In JSON mode on stdout as well, unless data stands there already: stdout is one document.
        """
        if self.format == "json" and not self._has_data:
            document = {"error": as_json(error)}
            self._write(shown.fitted(document, shown.as_json, text=JSON_TEXT, whole=JSON_BYTES))
        lines = [f"error: {_bounded(error.what)}  [{error.id}]"]
        if error.why:
            lines.append(f"  why:  {_bounded(error.why)}")
        if error.next_step:
            lines.append(f"  next: {_bounded(error.next_step)}")
        details = error.details.splitlines()
        if len(details) > DETAIL_LINES:
            lines.append(f"  ... {len(details) - DETAIL_LINES} line(s) above left out")
        lines += [f"  | {_bounded(line)}" for line in details[-DETAIL_LINES:]]
        if error.bundle:
            lines.append(f"  what was seen is kept in {error.bundle}")
        self._tell("\n".join(lines), style="red" if self.colour else None, first_only=True)

    # --- the streams ------------------------------------------------------------

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """Within the block nobody else reaches the console's streams; what others print is narration.

        For the time in which code of other people runs: see `labctl.captured.streams_apart`.
        """
        if self._out is not None or self._err is not None:  # a caller's own streams are apart already
            yield
            return
        with streams_apart(self.say) as (out, err):
            self._move(out, err)
            try:
                yield
            finally:
                self._move(None, None)

    def close(self) -> None:
        """Leave the terminal as it was found, even in the middle of a step."""
        with self._lock:
            self._region.close()

    def _move(self, out: TextIO | None, err: TextIO | None) -> None:
        with self._lock, self._region.paused():
            self._out, self._err, self._narration = out, err, None

    def _stdout(self) -> TextIO:
        return self._out or real("stdout") or sys.stdout

    def _stderr(self) -> TextIO:
        return self._err or real("stderr") or sys.stderr

    # --- inside ---------------------------------------------------------------

    def _line(self, mark: str, text: str, *, style: str | None = None) -> None:
        self._tell(f" {self._mark(mark)} {_bounded(text)}", style=style)

    def _mark(self, name: str) -> str:
        nice, plain = MARKS[name]
        try:
            nice.encode(getattr(self._stderr(), "encoding", None) or "ascii")
        except (UnicodeEncodeError, LookupError):
            return plain
        return nice

    def _tell(self, text: str, *, style: str | None = None, first_only: bool = False) -> None:
        from rich.text import Text

        safe = shown.clean(text)
        told = Text(safe)
        if style:
            told.stylize(style, 0, safe.find("\n") if first_only and "\n" in safe else len(safe))
        with self._lock:
            self._region.draw()  # what rich draws below the new line is what it drew last
            self._rich().print(told, soft_wrap=True)

    def _rich(self) -> RichConsole:
        with self._lock:
            if self._narration is None:
                from rich.console import Console as RichConsole

                self._narration = RichConsole(
                    file=cast("TextIO", _Safe(self._stderr(), tolerates=None)),
                    no_color=not self.colour,
                    highlight=False,
                    emoji=False,
                )
            return self._narration

    def _render(self, what: Any) -> None:
        if isinstance(what, str):
            safe = shown.clean(what)
            self._write(safe if safe.endswith("\n") or not safe else safe + "\n")
            return
        from rich.console import Console as RichConsole

        stream = self._stdout()
        width = None if stream.isatty() else 120
        console = RichConsole(
            file=stream, no_color=not self.colour, highlight=False, emoji=False, width=width
        )
        with console.capture() as drawn:
            console.print(_Cleaned(what), soft_wrap=False)
        self._write(drawn.get())

    def _write(self, text: str) -> None:
        stream = self._stdout()
        with self._lock, self._region.paused() if stream.isatty() else contextlib.nullcontext():
            safe = _Safe(stream, tolerates=LEFT)
            safe.write(text)
            safe.flush()

    # --- steps: called by `_Step` and `_Overall` ----------------------------------

    def _begin(self, row: Row) -> Row | None:
        """Show a step's row; returns the row around it."""
        around = self._around()
        row.depth = len(around)
        within = around[-1] if around else None
        around.append(row)
        if not self.quiet:
            with self._lock:
                self._region.add(row, within)
        return within

    def _note(self, row: Row, path: str, text: str) -> None:
        if text == row.note or self.quiet:
            return
        row.note = text
        if not self._region.possible:
            self._tell(f"     {path}: {_bounded(text)}")

    def _finish(self, row: Row, mark: str, text: str) -> None:
        self._around().remove(row)
        with self._lock:
            self._region.remove(row)
            if mark == "failed" or not self.quiet:
                self._line(mark, text, style="red" if mark == "failed" else None)

    def _around(self) -> list[Row]:
        """The steps under way in this thread, the outermost first."""
        if not hasattr(self._mine, "rows"):
            self._mine.rows = []
        rows: list[Row] = self._mine.rows
        return rows

    def _show_bar(self, bar: Bar) -> None:
        with self._lock:
            if not self.quiet:
                self._region.add_bar(bar)

    def _drop_bar(self, bar: Bar) -> None:
        with self._lock:
            self._region.remove_bar(bar)

    def _advance(self, bar: Bar, count: int) -> None:
        with self._lock:
            bar.done += count
            self._region.draw()


def _bounded(text: str) -> str:
    return shown.cut(text, shown.ON_TERMINAL)


class _Safe:
    """A text stream that replaces what its encoding cannot show instead of failing.

    Where writing fails with one of the errors that it ``tolerates`` (None: any), the descriptor leads nowhere from
    then on: what is being done goes on and keeps its exit code, and Python's own flush at exit does not fail either.
    """

    def __init__(self, stream: TextIO, *, tolerates: frozenset[int] | None) -> None:
        self._stream = stream
        self._tolerates = tolerates

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        with self._tolerant():
            self._stream.write(text.encode(encoding, "replace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        with self._tolerant():
            self._stream.flush()

    @contextlib.contextmanager
    def _tolerant(self) -> Iterator[None]:
        try:
            yield
        except OSError as failed:
            if self._tolerates is not None and failed.errno not in self._tolerates:
                raise
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)


class _Cleaned:
    """A rich object whose texts are cleaned once they are laid out; its colours stay."""

    def __init__(self, what: Any) -> None:
        self._what = what

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> Iterator[Segment]:
        from rich.segment import Segment

        for segment in console.render(self._what, options):
            yield segment if segment.control else Segment(shown.clean(segment.text), segment.style)


class _Step:
    """A step on the screen: a live line on a terminal, a line at its end everywhere."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._row = Row(title)
        self._path = title
        self._outcome = ""

    def note(self, text: str) -> None:
        """What the step waits for now; on a terminal it replaces the former note."""
        self._console._note(self._row, self._path, text)

    def result(self, text: str) -> None:
        """What came of the step, for its last line."""
        self._outcome = text

    def __enter__(self) -> _Step:
        around = self._console._begin(self._row)
        if around is not None:
            self._path = f"{around.title}: {self._row.title}"
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        seconds = time.monotonic() - self._row.started
        if kind is not None:
            self._console._finish(self._row, "failed", f"{self._path}  {seconds:.1f} s")
        else:
            outcome = f": {self._outcome}" if self._outcome else ""
            self._console._finish(self._row, "done", f"{self._path}{outcome}  {seconds:.1f} s")


class _Overall:
    """How much of the whole is done, as a bar on a terminal."""

    def __init__(self, console: Console, bar: Bar) -> None:
        self._console = console
        self._bar = bar

    def advance(self, count: int = 1) -> None:
        """So many more pieces are done."""
        self._console._advance(self._bar, count)

    def __enter__(self) -> _Overall:
        self._console._show_bar(self._bar)
        return self

    def __exit__(self, *_: object) -> None:
        self._console._drop_bar(self._bar)


def as_json(error: LabctlError) -> dict[str, Any]:
    """An error as JSON-able data, with all that it knows."""
    return {
        "id": error.id,
        "exit_code": error.exit_code,
        "what": error.what,
        "why": error.why,
        "next_step": error.next_step,
        "details": error.details,
        **({"bundle": error.bundle} if error.bundle else {}),
    }
