"""The committed documents say what the program says."""

from __future__ import annotations

from pathlib import Path

from labctl.cli import reference
from labctl.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]


def test_the_reference_is_what_the_commands_say() -> None:
    assert (ROOT / "docs" / "cli.md").read_text() == reference.markdown(), "run `make docs`"


def test_every_command_and_every_option_has_help() -> None:
    for context in reference.commands(cli, "labctl"):
        assert context.command.help or context.command.short_help, context.command_path
        for parameter in context.command.params:
            if parameter.param_type_name == "option":
                assert getattr(parameter, "help", None), f"{context.command_path} {parameter.name}"


def test_the_readme_shows_every_command() -> None:
    readme = (ROOT / "README.md").read_text()
    for context in reference.commands(cli, "labctl"):
        if not hasattr(context.command, "commands"):
            assert context.command_path in readme, f"`{context.command_path}` is not in README.md"
