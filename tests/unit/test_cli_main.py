"""The root command: quick, honest about errors, never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest

from labctl.cli import main as root
from labctl.cli.options import cluster_words, clusters_words
from labctl.console import Console
from labctl.errors import HostError, Terminated, UsageError

HEAVY = ("kubernetes", "rich", "pydantic", "jinja2", "yaml")


def labctl(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "labctl", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, **environment},
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom labctl.cli.main import cli\n"
        "try: cli.main(['--help'], standalone_mode=False)\n"
        "finally: print(sorted(m for m in sys.modules if '.' not in m), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert "doctor" in done.stdout
    loaded = set(eval(done.stderr))
    assert loaded & set(HEAVY) == set()


def test_every_command_in_the_table_exists_and_its_help_stands_in_the_list() -> None:
    shown = " ".join(labctl("--help").stdout.split())
    for name in root.COMMANDS:
        command = root.cli.get_command(click.Context(root.cli), name)
        assert command is not None, name
        assert command.help, f"{name} has no help"
        assert f"{name} {command.get_short_help_str(500)}" in shown


@pytest.mark.parametrize("group", [[], ["lab"], ["host"], ["image"], ["config"]])
def test_a_group_without_a_command_shows_its_help(group: list[str]) -> None:
    done = labctl(*group)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == labctl(*group, "--help").stdout


def read_names(*arguments: str) -> Any:
    """What commands that take names of clusters are given for ``arguments``."""
    seen: list[Any] = []

    @click.command()
    @cluster_words
    def one(name: str | None) -> None:
        seen.append(name)

    @click.command()
    @clusters_words
    def many(names: tuple[str, ...]) -> None:
        seen.append(names)

    command, *words = arguments
    {"one": one, "many": many}[command].main(args=words, standalone_mode=False)
    [given] = seen
    return given


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        (["one"], None),
        (["one", "a"], "a"),
        (["one", "--name", "a"], "a"),
        (["one", "a", "--name", "a"], "a"),
        (["many"], ()),
        (["many", "a", "b"], ("a", "b")),
        (["many", "--name", "c", "a", "--name", "a"], ("a", "c")),
    ],
)
def test_a_cluster_is_named_in_one_way(arguments: list[str], given: Any) -> None:
    assert read_names(*arguments) == given


def test_two_names_for_one_cluster_are_refused() -> None:
    with pytest.raises(UsageError):
        read_names("one", "a", "--name", "b")


@pytest.mark.parametrize("arguments", [["no-such-command"], ["up", "--no-such-option"]])
def test_a_wrong_command_line_is_exit_2_without_a_traceback(arguments: list[str]) -> None:
    done = labctl(*arguments)
    assert done.returncode == 2
    assert "[usage]" in done.stderr
    assert "Traceback" not in done.stderr


def run_with(monkeypatch: pytest.MonkeyPatch, failure: BaseException) -> tuple[int, list[str]]:
    """What main does when a command raises ``failure``: the exit code, and the ids of errors shown."""
    shown: list[str] = []

    @click.command()
    def broken() -> None:
        raise failure

    monkeypatch.setattr(root.cli, "get_command", lambda *_: broken)
    console = Console()
    monkeypatch.setattr(console, "error", lambda error: shown.append(error.id))
    return root._run(["broken"], console), shown


@pytest.mark.parametrize(
    ("failure", "code", "identity"),
    [
        (HostError("x"), 3, "host-not-ready"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (Terminated("terminated"), 143, "interrupted"),
        (OSError(28, "No space left on device", "/state/journal"), 4, "write-failed"),
        (ZeroDivisionError("division by zero"), 70, "bug"),
    ],
)
def test_each_way_to_fail_has_its_exit_code_and_is_shown_once(
    monkeypatch: pytest.MonkeyPatch, failure: BaseException, code: int, identity: str
) -> None:
    assert run_with(monkeypatch, failure) == (code, [identity])


def test_a_reader_that_leaves_early_is_no_error() -> None:
    """The window between two writes is small; a pipe whose reader is closed from the start has none."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "labctl", "--help"],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.stderr == ""
    assert done.returncode == 0


def test_a_reader_of_results_that_leaves_early_does_not_change_the_exit_code() -> None:
    code = (
        "import click\nfrom labctl.cli import main as root\n"
        "@click.command()\n@click.pass_obj\ndef fails(console):\n"
        "    for n in range(50000): console.raw('a line')\n    return 4\n"
        "root.cli.get_command = lambda *_: fails\nroot.main(['fails'])\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout and child.stderr
    assert child.stdout.readline() == "a line\n"
    child.stdout.close()
    assert child.stderr.read() == ""
    assert child.wait(timeout=30) == 4
    child.stderr.close()


def test_sigterm_reaches_a_command_as_an_interrupt_and_ends_with_143(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = (
        "import click, pathlib, threading\nfrom labctl.cli import main as root\n"
        "@click.command()\ndef slow():\n"
        f"    pathlib.Path({str(ready)!r}).touch()\n"
        # Short waits, as everywhere in labctl: a signal that arrives just before a blocking call is
        # seen by Python only after that call.
        "    while True: threading.Event().wait(0.05)\n"
        "root.cli.get_command = lambda *_: slow\nroot.main(['slow'])\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while not ready.exists():
        assert time.monotonic() < deadline and child.poll() is None
    child.send_signal(signal.SIGTERM)
    _, stderr = child.communicate(timeout=20)
    assert child.returncode == 143
    assert "Traceback" not in stderr
