"""The only writer: data on stdout, narration and progress on stderr.

What a user reads survives without colour, without a terminal and without UTF-8. In JSON
mode stdout carries one JSON document and nothing else. This module decides nothing:
it knows what a step and an error look like, not what they mean.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TextIO, cast

from labctl.errors import LabctlError

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.status import Status

Format = Literal["text", "json"]

MARKS = {"done": ("✓", "+"), "failed": ("✗", "x"), "said": ("·", "-")}
"""Each mark with its stand-in for terminals that cannot show it."""

DETAIL_LINES = 40
"""How much captured output an error shows; the whole of it goes into the bundle."""


class Console:
    """Where everything that labctl shows goes out; it is a `labctl.progress.Progress`."""

    def __init__(self, *, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.format: Format = "text"
        self.quiet = False
        self.colour = "NO_COLOR" not in os.environ
        self._out = out
        self._err = err
        self._has_data = False
        self._narration: RichConsole | None = None
        self._lock = threading.Lock()

    # --- data -----------------------------------------------------------------

    def data(self, value: Any, render: Callable[[], Any] | None = None) -> None:
        """Write a result: ``value`` (JSON-able) in JSON mode, else what ``render`` returns (text or a rich object)."""
        self._has_data = True
        if self.format == "json":
            self._write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
        elif render is None:
            self._write(f"{value}\n")
        else:
            self._render(render())

    def raw(self, text: str) -> None:
        """Write ``text`` to stdout as it is, in either mode (a path, a file's content)."""
        self._write(text if text.endswith("\n") else text + "\n")

    def confirm(self, question: str) -> bool:
        """Ask on the terminal; anything but yes, and no terminal at all, is no."""
        stream = self._err or sys.stderr
        if not sys.stdin or not sys.stdin.isatty():
            return False
        stream.write(f"{question} [y/N] ")
        stream.flush()
        return sys.stdin.readline().strip().lower() in {"y", "yes"}

    # --- narration ------------------------------------------------------------

    def say(self, text: str) -> None:
        """A remark on stderr."""
        if not self.quiet:
            self._line("said", text)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[_Step]:
        """Show a step while it is under way and, when it ends, its outcome and its seconds."""
        step = _Step(self, title)
        with step:
            yield step

    def error(self, error: LabctlError) -> None:
        """Show an error once: what, why, what to do next, then the details.

        In JSON mode on stdout as well, unless data stands there already: stdout is one document.
        """
        if self.format == "json" and not self._has_data:
            self._write(json.dumps({"error": as_json(error)}, ensure_ascii=False, indent=2) + "\n")
        lines = [f"error: {error.what}  [{error.id}]"]
        if error.why:
            lines.append(f"  why:  {error.why}")
        if error.next_step:
            lines.append(f"  next: {error.next_step}")
        shown = error.details.splitlines()
        if len(shown) > DETAIL_LINES:
            lines.append(f"  ... {len(shown) - DETAIL_LINES} line(s) above left out")
        lines += [f"  | {line}" for line in shown[-DETAIL_LINES:]]
        if error.bundle:
            lines.append(f"  what was seen is kept in {error.bundle}")
        self._tell("\n".join(lines), style="red" if self.colour else None, first_only=True)

    # --- inside ---------------------------------------------------------------

    def _line(self, mark: str, text: str, *, style: str | None = None) -> None:
        self._tell(f" {self._mark(mark)} {text}", style=style)

    def _mark(self, name: str) -> str:
        nice, plain = MARKS[name]
        try:
            nice.encode(getattr(self._err or sys.stderr, "encoding", None) or "ascii")
        except (UnicodeEncodeError, LookupError):
            return plain
        return nice

    def _tell(self, text: str, *, style: str | None = None, first_only: bool = False) -> None:
        from rich.text import Text

        shown = Text(text)
        if style:
            shown.stylize(style, 0, text.find("\n") if first_only and "\n" in text else len(text))
        with self._lock:
            self._rich().print(shown, soft_wrap=True)

    def _rich(self) -> RichConsole:
        if self._narration is None:
            self._narration = _narrator()(
                file=cast("TextIO", _Safe(self._err or sys.stderr)),
                no_color=not self.colour,
                highlight=False,
                emoji=False,
            )
        return self._narration

    def _render(self, what: Any) -> None:
        if isinstance(what, str):
            self._write(what if what.endswith("\n") or not what else what + "\n")
            return
        from rich.console import Console as RichConsole

        stream = self._out or sys.stdout
        width = None if stream.isatty() else 120
        console = RichConsole(
            file=stream, no_color=not self.colour, highlight=False, emoji=False, width=width
        )
        with console.capture() as drawn:
            console.print(what, soft_wrap=False)
        self._write(drawn.get())

    def _write(self, text: str) -> None:
        stream = self._out or sys.stdout
        try:
            _Safe(stream).write(text)
            stream.flush()
        except BrokenPipeError:
            # The reader has left. What is being done goes on and keeps its exit code; Python's own
            # flush at exit must not fail on that pipe either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _narrator() -> type[RichConsole]:
    """rich's console, which falls silent when the reader of stderr has left; rich's own would end the process."""
    from rich.console import Console as RichConsole

    class Narrator(RichConsole):
        def on_broken_pipe(self) -> None:
            self.quiet = True

    return Narrator


class _Safe:
    """A text stream that replaces what its encoding cannot show instead of failing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        return self._stream.write(text.encode(encoding, "replace").decode(encoding))


class _Step:
    """A step on the screen: a live line on a terminal, a line at its end everywhere."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._outcome = ""
        self._last_note = ""
        self._started = time.monotonic()
        self._status: Status | None = None

    def note(self, text: str) -> None:
        """What the step waits for now; on a terminal it replaces the former note."""
        if text == self._last_note or self._console.quiet:
            return
        self._last_note = text
        if self._status is not None:
            from rich.text import Text

            self._status.update(Text(f"{self._title}: {text}"))
        elif not self._console._rich().is_terminal:
            self._console._tell(f"     {self._title}: {text}")

    def result(self, text: str) -> None:
        """What came of the step, for its last line."""
        self._outcome = text

    def __enter__(self) -> _Step:
        rich = self._console._rich()
        if rich.is_terminal and not self._console.quiet and not getattr(rich, "_live_stack", None):
            from rich.text import Text

            self._status = rich.status(
                Text(self._title), spinner="dots" if self._console._mark("done") == "✓" else "line"
            )
            self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._status is not None:
            self._status.stop()
        seconds = time.monotonic() - self._started
        outcome = f": {self._outcome}" if self._outcome else ""
        if kind is not None:
            self._console._line("failed", f"{self._title}  {seconds:.1f} s", style="red")
        elif not self._console.quiet:
            self._console._line("done", f"{self._title}{outcome}  {seconds:.1f} s")


def as_json(error: LabctlError) -> dict[str, Any]:
    """An error as JSON-able data, with all that it knows."""
    return {
        "id": error.id,
        "exit_code": error.exit_code,
        "what": error.what,
        "why": error.why,
        "next": error.next_step,
        "details": error.details,
        **({"bundle": error.bundle} if error.bundle else {}),
    }
