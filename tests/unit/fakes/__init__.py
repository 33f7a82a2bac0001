"""Fake programs that answer by rules: what the tools are tested against, without docker, kind or a network.

For a fake with a mind of its own there is the fixture ``fake_tools``; this one is for a program that is
asked many different things.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

ANSWER = Path(__file__).with_name("answer")


class ScriptedTools:
    """A PATH that holds nothing but the fakes that a test adds; ``calls`` is what was asked of them."""

    def __init__(self, home: Path) -> None:
        self.bin = home / "bin"
        self.bin.mkdir(parents=True)
        self._home = home
        self._rules = 0

    def on(
        self,
        program: str,
        pattern: str = "*",
        *,
        stdout: str | dict[str, Any] | list[Any] = "",
        stderr: str = "",
        exit_code: int = 0,
        once: bool = False,
        keep_stdin: bool = False,
    ) -> Path:
        """Let ``program`` answer so when its arguments, joined by spaces, fit the shell ``pattern``.

        Rules are tried in the order in which they were made. Returns the rule's directory; with
        ``keep_stdin`` its file ``stdin`` holds what the program was given.
        """
        self._rules += 1
        rule = self._home / "rules" / program / f"{self._rules:04}"
        rule.mkdir(parents=True)
        (rule / "match").write_text(f"{pattern}\n")
        (rule / "stdout").write_text(stdout if isinstance(stdout, str) else json.dumps(stdout))
        (rule / "stderr").write_text(stderr)
        (rule / "exit").write_text(f"{exit_code}\n")
        if once:
            (rule / "once").touch()
        if keep_stdin:
            (rule / "stdin").touch()
        if not (self.bin / program).exists():
            shutil.copy(ANSWER, self.bin / program)
        return rule

    def program(self, name: str, text: str) -> Path:
        """Put a program of its own on PATH."""
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    @property
    def calls(self) -> list[str]:
        """Each call so far as ``program arguments``."""
        noted = self._home / "calls"
        return noted.read_text().splitlines() if noted.exists() else []

    def called(self, start: str) -> list[str]:
        """The calls that begin with ``start``."""
        return [call for call in self.calls if call.startswith(start)]


def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedTools:
    """Let programs that answer by rules be all there is on PATH."""
    tools = ScriptedTools(tmp_path / "fakes")
    monkeypatch.setenv("PATH", str(tools.bin))
    return tools
