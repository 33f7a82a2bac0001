"""Options that several commands share, so that one word means one thing wherever it stands.

A cluster is ``--name NAME`` everywhere, and a plain NAME where a command takes no other words. A folder of labs
is ``--labs-dir``. Former spellings go on working, unlisted, with a note on stderr.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args

import click

from labctl.console import Console
from labctl.errors import UsageError
from labctl.host.finding import Source

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]

FOLDER = click.Path(path_type=Path)
SENTENCE = 200
"""Characters; no command needs more for its first sentence."""
HERE = "Which cluster of labctl's (default: the only one)."


class HelpShown(click.UsageError):
    """A group was called without a command: its help is the answer."""


class Group(click.Group):
    """A group that, called without a command, shows its help on stderr and ends with 2, as newer clicks do."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, unless there is nothing to parse."""
        if not args and not ctx.resilient_parsing:
            raise HelpShown(ctx.get_help(), ctx)
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with the whole first sentence of what each says of itself."""
        named = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        lines = [(name, one.get_short_help_str(SENTENCE)) for name, one in named if one and not one.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(lines)


def output_option(command: Command) -> Command:
    """Add ``-o text|json``; it sets the console's format and reaches the command as nothing."""

    def choose(context: click.Context, _: click.Parameter, value: str | None) -> None:
        if value:
            console = context.ensure_object(Console)
            console.format = "json" if value == "json" else "text"

    return click.option(
        "-o",
        "--output",
        type=click.Choice(["text", "json"]),
        callback=choose,
        expose_value=False,
        is_eager=True,
        help="How to print the result (default: text).",
    )(command)


def renamed(old: str, new: str, parameter: str, help_text: str, **settings: Any) -> Decorator[Any]:
    """The option ``new``, which reaches the command as ``parameter``, and its former spelling ``old``."""
    key = f"labctl.former.{parameter}"

    def keep(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value is not None:
            context.meta[key] = value
            context.ensure_object(Console).say(f"{old} is now {new}; the old word still works")

    def choose(context: click.Context, _: click.Parameter, value: Any) -> Any:
        former = context.meta.pop(key, None)
        return former if value is None else value

    def add(command: Command) -> Command:
        former = click.option(
            old, key.replace(".", "_"), hidden=True, expose_value=False, callback=keep, is_eager=True,
            help=f"The former word for {new}.", **settings,
        )  # fmt: skip
        option: Decorator[Any] = click.option(new, parameter, callback=choose, help=help_text, **settings)
        made: Command = option(former(command))
        return made

    return add


def cluster_option(command: Command) -> Command:
    """Add ``--name NAME`` for a cluster that exists; it reaches the command as ``name``."""
    return click.option("--name", metavar="NAME", help=HERE)(command)


def cluster_words(command: Command) -> Command:
    """Add a plain NAME and ``--name NAME``, which mean the same; they reach the command as ``name``."""

    def one(context: click.Context, _: click.Parameter, value: str | None) -> str | None:
        named = _names(context, value)
        if len(named) > 1:
            _twice(named)
        return named[0] if named else None

    made: Command = _words(click.option("--name", metavar="NAME", callback=one, help=HERE), 1)(command)
    return made


def clusters_words(command: Command) -> Command:
    """Add any number of plain NAMEs and of ``--name NAME``; they reach the command as ``names``."""
    option = click.option(
        "--name", "names", multiple=True, metavar="NAME", callback=_names, help="The same as a plain NAME."
    )
    made: Command = _words(option, -1)(command)
    return made


def _words(option: Decorator[Any], count: int) -> Decorator[Any]:
    def keep(context: click.Context, _: click.Parameter, value: Any) -> None:
        context.meta["labctl.names"] = (value,) if isinstance(value, str) else tuple(value or ())

    def add(command: Command) -> Command:
        words = click.argument(
            "words", nargs=count, required=False, metavar="[NAME]" if count == 1 else "[NAME]...",
            expose_value=False, is_eager=True, callback=keep,
        )  # fmt: skip
        made: Command = words(option(command))
        return made

    return add


def _names(context: click.Context, *given: Any) -> tuple[str, ...]:
    """The names among the plain words and in the option's value, each once."""
    value = given[-1]
    more = (value,) if isinstance(value, str) else tuple(value or ())
    return tuple(dict.fromkeys((*context.meta.get("labctl.names", ()), *more)))


def _twice(named: Sequence[str]) -> NoReturn:
    raise UsageError("two names for one cluster", why=" and ".join(named), next_step="leave one of them out")


labs_folder = renamed(
    "--labs",
    "--labs-dir",
    "folder",
    "Where the labs are (default: labs/ here or above, else labctl's own).",
    type=FOLDER,
    metavar="DIR",
)

strict_option = click.option(
    "--strict", is_flag=True, help="A lab that the cluster is not fit for is a failure."
)

skip_option = click.option(
    "--skip-check",
    "skip",
    multiple=True,
    metavar="ID",
    help="Pass over this check of the doctor (repeatable).",
)

source_option = click.option(
    "--source",
    type=click.Choice(get_args(Source)),
    default="auto",
    show_default=True,
    help="Where an absent node image may come from.",
)

image_option = click.option("--image", default="", metavar="REF", help="Another node image than labctl's.")

raw_option = click.option(
    "--allow-raw-kind", is_flag=True, help="Admit kind's mounts and patches from the file."
)
