"""The root command: quick, honest about errors, never a traceback."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest

from labctl.cli import main as root
from labctl.cli.options import cluster_words, clusters_words
from labctl.console import Console
from labctl.errors import HostError, HungUp, Terminated, UsageError
from labctl.waiting import NotYet, until

ROOT = Path(__file__).resolve().parents[2]
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
        (HungUp("the terminal was closed"), 129, "interrupted"),
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


SLOW = """
import click, os, sys, threading
from labctl import process
from labctl.cli import main as root

@click.command()
@click.pass_obj
def slow(console):
    with console.step("Make nodes"):
        try:
            process.run(["sh", "-c", "echo $$; exec sleep 60"], timeout=60, on_line=lambda pid: tell("child", pid))
        finally:
            console.say("cleaned up")
            tell("cleaned", "up")

def tell(name, text):
    with open(os.path.join(sys.argv[1], name + ".new"), "w") as file:
        file.write(text)
    os.rename(os.path.join(sys.argv[1], name + ".new"), os.path.join(sys.argv[1], name))

root.cli.get_command = lambda *_: slow
root.main(["slow"])
"""
"""A command with a child process, which tells when the child runs and when it has cleaned up."""


def wait_for(path: Path) -> str:
    """The content of a file, as soon as it is there."""

    def probe() -> str:
        if not path.exists():
            raise NotYet(f"no {path.name}")
        return path.read_text()

    return until(probe, what=path.name, within=20, every=0.02)


def require_gone(pid: int) -> None:
    """Wait until a process is there no longer, or is a zombie that somebody else has to reap."""

    def probe() -> None:
        stat = Path(f"/proc/{pid}/stat")
        with contextlib.suppress(OSError):
            if stat.read_text().rpartition(")")[2].split()[0] != "Z":
                raise NotYet(f"process {pid} runs")

    until(probe, what="the process is gone", within=10, every=0.02)


STOPS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.mark.parametrize("number", STOPS, ids=str)
def test_a_signal_is_an_interrupt_that_ends_the_child_and_cleans_up(
    tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-c", SLOW, str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        pid = int(wait_for(tmp_path / "child"))
        child.send_signal(number)
        _, stderr = child.communicate(timeout=20)
    assert child.returncode == STOPS[number]
    assert (tmp_path / "cleaned").exists()
    assert "[interrupted]" in stderr
    assert "Traceback" not in stderr
    require_gone(pid)


def test_a_terminal_that_is_closed_takes_nothing_along(tmp_path: Path) -> None:
    """Its end brings SIGHUP, and from then on each word to it fails."""
    master, slave = pty.openpty()
    own_terminal = (
        "import os, sys, fcntl, termios\nos.setsid()\nfcntl.ioctl(2, termios.TIOCSCTTY, 0)\n"
        "os.execv(sys.executable, [sys.executable, '-c', *sys.argv[1:]])\n"
    )
    command = [sys.executable, "-c", own_terminal, SLOW, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm"}
    ) as child:
        os.close(slave)
        pid = int(wait_for(tmp_path / "child"))
        os.close(master)
        assert child.wait(timeout=20) == 129
    assert (tmp_path / "cleaned").exists()
    require_gone(pid)


def test_what_the_caller_has_us_ignore_stays_ignored(tmp_path: Path) -> None:
    """`nohup labctl up` goes on when the terminal is closed."""
    ignoring = f"import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n{SLOW}"
    command = [sys.executable, "-c", ignoring, str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        pid = int(wait_for(tmp_path / "child"))
        child.send_signal(signal.SIGHUP)
        os.kill(pid, signal.SIGKILL)  # so it ends by itself, with its child
        child.communicate(timeout=20)
    assert child.returncode == 4


@pytest.mark.parametrize("number", STOPS, ids=str)
def test_a_signal_while_the_commands_are_imported_ends_without_a_traceback(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "click.py").write_text(
        "import sys, time\nsys.stdout.write('importing\\n')\nsys.stdout.flush()\nwhile True: time.sleep(0.01)\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    with subprocess.Popen(
        [sys.executable, "-m", "labctl", "ls"], env={**os.environ, "PYTHONPATH": path}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as child:  # fmt: skip
        assert child.stdout
        assert child.stdout.readline() == "importing\n"
        child.send_signal(number)
        _, stderr = child.communicate(timeout=20)
    assert child.returncode == STOPS[number]
    assert stderr == "error: interrupted  [interrupted]\n  next: run the command again\n"


def test_the_installed_program_enters_where_signals_are_heard_first() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"labctl": "labctl.__main__:main"}
    loaded = "import sys\nimport labctl.__main__\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-SEc", f"sys = __import__('sys')\nsys.path.append({str(ROOT)!r})\n{loaded}"],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert {name for name in done.stdout.split() if name.startswith("labctl")} == {
        "labctl",
        "labctl.__main__",
    }
    assert not {"contextlib", "typing", "click"} & set(done.stdout.split())
