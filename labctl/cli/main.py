"""The root command: which commands exist, and how an error reaches the user.

Commands are named here and imported only when they are asked for; their modules import what is heavy only
when they run, so that `labctl --help` loads neither the Kubernetes client nor anything that draws.
"""

from __future__ import annotations

import contextlib
import importlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import click

from labctl import __version__
from labctl.captured import occupy
from labctl.cli.options import Group, HelpShown
from labctl.console import Console
from labctl.errors import (
    Bug,
    HungUp,
    Interrupted,
    LabctlError,
    Terminated,
    UsageError,
    WriteFailed,
    signal_number,
)

COMMANDS: dict[str, str] = {
    "doctor": "labctl.cli.host:doctor",
    "host": "labctl.cli.host:host",
    "image": "labctl.cli.image:image",
    "up": "labctl.cli.cluster:up",
    "down": "labctl.cli.cluster:down",
    "status": "labctl.cli.cluster:status",
    "heal": "labctl.cli.heal:heal",
    "ls": "labctl.cli.cluster:ls",
    "kubeconfig": "labctl.cli.cluster:kubeconfig",
    "shell": "labctl.cli.cluster:shell",
    "kubectl": "labctl.cli.cluster:kubectl",
    "config": "labctl.cli.config:config",
    "lab": "labctl.cli.lab:lab",
    "ci": "labctl.cli.ci:ci",
}
"""Name -> module:attribute, in the order in which a user meets them. What a command is for, its docstring says."""


class LazyGroup(Group):
    """A group that imports a command when it is asked for it: all of them for the list, else one."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. An interrupt is ours to report: click would write a line amid what is drawn."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            raise Interrupted.of(stop) from stop

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """The names, in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's
        """Import and return the command; None for a name that does not exist."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name].split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="labctl")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but results and errors.")
@click.option("--no-color", is_flag=True, help="No colour (NO_COLOR does the same).")
@click.pass_context
def cli(ctx: click.Context, quiet: bool, no_color: bool) -> None:
    """A real multi-node Kubernetes cluster on this machine, proven, and numbered labs on it.

    \b
    Start here:
      labctl up three-nodes      create and prove a cluster
      labctl lab run 9           run lab 09
      labctl down                delete the cluster
    """
    console = ctx.ensure_object(Console)
    console.quiet = quiet
    if no_color:
        console.colour = False


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave the process with the exit code that architecture promises."""
    console = Console()
    occupy()
    try:
        with _stops_heard():
            try:
                code = _run(arguments, console)
            finally:
                console.close()
    except KeyboardInterrupt as again:  # a second one, while the first was being reported
        code = 128 + signal_number(again)
    sys.exit(code)


def _run(arguments: list[str] | None, console: Console) -> int:
    try:
        code = cli.main(args=arguments, prog_name="labctl", standalone_mode=False, obj=console)
        return code if isinstance(code, int) else 0
    except LabctlError as error:
        return _report(console, error)
    except HelpShown as shown:
        console.guide(shown.format_message())
        return UsageError.exit_code
    except click.exceptions.Abort as abort:  # click's word for an interrupt or the end of input
        return _report(console, Interrupted.of(abort.__cause__ or abort))
    except click.ClickException as error:
        return _report(console, _usage(error))
    except KeyboardInterrupt as stop:
        return _report(console, Interrupted.of(stop))
    except SystemExit:  # click's answer to a reader of our help that has left: no failure of ours
        return 0
    except OSError as error:
        return _report(
            console,
            WriteFailed(
                f"cannot use {error.filename or 'a file'}",
                why=error.strerror or str(error),
                next_step="free space or correct the permissions, then run the command again",
            ),
        )
    except Exception as error:  # noqa: BLE001  # the last resort: no traceback reaches the user unasked
        return _report(console, Bug.of(error))


def _report(console: Console, error: LabctlError) -> int:
    with contextlib.suppress(BrokenPipeError):
        console.error(error)
    return error.exit_code


def _usage(error: click.ClickException) -> UsageError:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "labctl"
    return UsageError(error.format_message(), next_step=f"`{command} --help` lists what is possible")


@contextlib.contextmanager
def _stops_heard() -> Iterator[None]:
    """Within the block the signals that ask us to stop are interrupts, but for those that the caller lets us ignore."""
    handlers = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: _terminated,
        signal.SIGHUP: _hung_up,
    }
    former = {number: signal.getsignal(number) for number in handlers}
    try:
        with contextlib.suppress(ValueError):  # not in the main thread: there nothing arrives
            for number, handler in handlers.items():
                if former[number] is not signal.SIG_IGN:  # as nohup does
                    signal.signal(number, handler)
        yield
    finally:
        with contextlib.suppress(ValueError):
            for number, before in former.items():
                signal.signal(number, before)


def _terminated(_: int, __: FrameType | None) -> Any:
    raise Terminated("terminated")


def _hung_up(_: int, __: FrameType | None) -> Any:
    raise HungUp("the terminal was closed")
