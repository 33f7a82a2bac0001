"""The region at the foot of a terminal that shows what is under way, a line for each step.

It belongs to labctl.console, which holds its lock around every call and whenever it prints: rich's own thread
would draw beside a print, and with a region that changes its height that leaves torn lines. What is finished
is printed by the console, above the region. The region knows lines and a bar, not what they stand for.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labctl.shown import line

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.console import RenderableType
    from rich.live import Live

PER_SECOND = 8
"""How often the region is drawn."""
TITLE_CHARACTERS, NOTE_CHARACTERS = 200, 400
"""More fits on no terminal; what is longer would only be cut by it."""


@dataclass(eq=False)
class Row:
    """A line of the region. ``depth`` is how many steps of the same thread are around it."""

    title: str
    depth: int = 0
    note: str = ""
    started: float = field(default_factory=time.monotonic)


@dataclass(eq=False)
class Bar:
    """How many of ``total`` pieces of work are done."""

    title: str
    total: int
    done: int = 0


class Region:
    """What is under way. ``lock`` is held by whoever calls; a thread of the region's takes it to draw."""

    def __init__(
        self, rich: Callable[[], RichConsole], lock: threading.RLock, *, ascii_only: Callable[[], bool]
    ) -> None:
        self._rich = rich
        self._lock = lock
        self._ascii_only = ascii_only
        self._rows: tuple[Row, ...] = ()
        self._bars: tuple[Bar, ...] = ()
        self._live: Live | None = None
        self._ended = threading.Event()
        self._paused = 0
        self._touched = False
        self._closed = False

    @property
    def possible(self) -> bool:
        """Whether narration goes to a terminal that can be drawn on."""
        rich = self._rich()
        return rich.is_terminal and not rich.is_dumb_terminal

    def add(self, row: Row, within: Row | None) -> None:
        """Show ``row``, below the one it belongs to."""
        rows = list(self._rows)
        rows.insert(rows.index(within) + 1 if within in rows else len(rows), row)
        self._rows = tuple(rows)
        self._follow()

    def remove(self, row: Row) -> None:
        """Show ``row`` no longer."""
        self._rows = tuple(one for one in self._rows if one is not row)
        self._follow()

    def add_bar(self, bar: Bar) -> None:
        """Show ``bar`` at the foot."""
        self._bars = (*self._bars, bar)
        self._follow()

    def remove_bar(self, bar: Bar) -> None:
        """Show ``bar`` no longer."""
        self._bars = tuple(one for one in self._bars if one is not bar)
        self._follow()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Take the region away from the terminal while something else writes there."""
        self._paused += 1
        try:
            self._follow()
            yield
        finally:
            self._paused -= 1
            self._follow()

    def close(self) -> None:
        """Take the region away for good and give the cursor back, whatever is under way still."""
        self._closed = True
        self._follow()
        if self._touched:  # an interrupt may have cut off rich itself just before it did that
            self._rich().show_cursor(True)

    def draw(self) -> None:
        """Draw it as it is now."""
        if self._live is not None:
            self._live.refresh()

    def _follow(self) -> None:
        """Start or stop drawing, as it is wanted now."""
        stopped = self._paused or self._closed
        wanted = bool(self._rows or self._bars) and not stopped and self.possible
        if wanted and self._live is None:
            self._touched = True
            self._live, self._ended = self._new(), threading.Event()
            self._live.start(refresh=True)
            threading.Thread(target=self._keep_drawing, args=(self._live, self._ended), daemon=True).start()
        elif not wanted and self._live is not None:
            self._ended.set()
            self._live.stop()  # still named here: an interrupt while it stops must find it again in `close`
            self._live = None
        else:
            self.draw()

    def _keep_drawing(self, live: Live, ended: threading.Event) -> None:
        while not ended.wait(1 / PER_SECOND):
            with self._lock:
                if not ended.is_set():
                    live.refresh()

    def _new(self) -> Live:
        from rich.live import Live

        # A new one each time: a Live that starts again moves the cursor up by the height it once had.
        return Live(
            console=self._rich(),
            get_renderable=self._draw,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def _draw(self) -> RenderableType:
        from rich.console import Group
        from rich.spinner import Spinner
        from rich.text import Text

        frame = Spinner("line" if self._ascii_only() else "dots").render(time.monotonic())
        sign = frame.plain if isinstance(frame, Text) else ""
        now = time.monotonic()
        return Group(*(_text(row, sign, now) for row in self._rows), *(_bar(bar) for bar in self._bars))


def _text(row: Row, sign: str, now: float) -> RenderableType:
    from rich.text import Text

    shown = Text(no_wrap=True, overflow="ellipsis")
    shown.append(f"{'  ' * row.depth} {sign} ", style="cyan")
    shown.append(line(row.title[:TITLE_CHARACTERS]))
    shown.append(f"  {now - row.started:.0f} s", style="dim")
    if row.note:
        shown.append(f"  {line(row.note[:NOTE_CHARACTERS])}", style="dim")
    return shown


def _bar(bar: Bar) -> RenderableType:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    row = Table.grid(padding=(0, 1))
    row.add_row(
        Text(f" {line(bar.title)}"),
        ProgressBar(total=max(bar.total, 1), completed=bar.done, width=30),
        Text(f"{bar.done}/{bar.total}"),
    )
    return row
