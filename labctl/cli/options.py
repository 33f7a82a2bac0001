"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from labctl.console import Console

Command = TypeVar("Command", bound=Callable[..., Any])


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
