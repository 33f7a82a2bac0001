"""Report files: which formats go where, and that a file is whole or not touched."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from labctl import files
from labctl.errors import UsageError, WriteFailed
from labctl.report import html, junit, markdown
from labctl.report.model import RunReport

NEXT = "free space or correct the permissions; the results stand above"


@dataclass(frozen=True)
class Files:
    """Where reports are wanted. ``summary`` is appended to, as CI services expect; the others are replaced."""

    junit: Path | None = None
    html: Path | None = None
    summary: Path | None = None

    def _wanted(self) -> list[tuple[Path, Callable[[RunReport], str], bool]]:
        table = (
            (self.junit, junit.text, False),
            (self.html, html.text, False),
            (self.summary, markdown.text, True),
        )
        return [(path, draw, append) for path, draw, append in table if path]

    def require_writable(self) -> None:
        """Make the directories and try the files before the work starts. Raises `UsageError`.

        A report that cannot be written after half an hour of work helps nobody.
        """
        for path, _, _ in self._wanted():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("a"):
                    pass
            except OSError as error:
                raise UsageError(
                    f"{path} cannot be written",
                    why=error.strerror or str(error),
                    next_step="name another file",
                ) from error

    def write(self, report: RunReport) -> None:
        """Write every file that is wanted. Raises `WriteFailed` after the others have been tried."""
        failures: list[WriteFailed] = []
        for path, draw, append in self._wanted():
            text = draw(report)
            try:
                if append or not _replaceable(path):
                    with path.open("a" if append else "w", encoding="utf-8") as file:
                        file.write(text)
                else:
                    files.write(path, text, mode=0o666, next_step=NEXT)
            except OSError as error:
                failures.append(files.failed(path, error, NEXT))
            except WriteFailed as failure:
                failures.append(failure)
        if failures:
            raise failures[0]


def _replaceable(path: Path) -> bool:
    """Whether a new file may take the place of ``path``: not that of a device, a pipe or a link, nor where
    only the file itself may be written."""
    special = path.is_symlink() or (path.exists() and not path.is_file())
    return not special and not path.is_mount() and os.access(path.parent, os.W_OK)
