"""The command-line reference, generated from the commands' own help so that it cannot go stale.

`make docs` writes it to docs/cli.md; a unit test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from labctl.cli.main import cli


def commands(
    command: click.Command, path: str, parent: click.Context | None = None
) -> Iterator[click.Context]:
    """Every command below ``command``, itself first, each with the context that its help needs."""
    settings = {**command.context_settings, "max_content_width": 100, "terminal_width": 100}
    context = click.Context(command, info_name=path, parent=parent, **settings)
    yield context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from commands(child, name, context)


def markdown() -> str:
    """The reference as Markdown: a heading and the help text of every command."""
    parts = ["# Command reference\n\nGenerated from `labctl --help` by `make docs`; do not edit.\n"]
    for context in commands(cli, "labctl"):
        help_text = "\n".join(line.rstrip() for line in context.get_help().splitlines())
        parts.append(f"## {context.command_path}\n\n```text\n{help_text}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    import sys

    sys.stdout.write(markdown())
