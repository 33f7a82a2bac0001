"""`labctl config`: render, validate and describe cluster files. Needs neither docker nor a cluster."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from labctl.cli.cluster import read_spec
from labctl.cli.options import Group, output_option, raw_option
from labctl.console import Console
from labctl.errors import ConfigError, ConfigProblem

if TYPE_CHECKING:
    from labctl.cluster.spec import ClusterSpec


@click.group(cls=Group)
def config() -> None:
    """Render, validate and describe cluster files."""


@config.command()
@click.argument("file")
@raw_option
@output_option
@click.pass_obj
def render(console: Console, file: str, allow_raw_kind: bool) -> None:
    """Print the plain kind configuration that FILE stands for: `kind create cluster --config -` takes it.

    FILE is a path, or the name of a cluster file that ships with labctl.
    """
    from labctl.cluster.up import kindconfig

    spec = read_spec(file, allow_raw=allow_raw_kind)
    console.data(kindconfig.config(spec), lambda: kindconfig.render(spec))


@config.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@raw_option
@output_option
@click.pass_obj
def validate(console: Console, files: Sequence[str], allow_raw_kind: bool) -> None:
    """Check cluster files and show every problem of each, with its line and column."""
    specs: dict[str, ClusterSpec] = {}
    problems: list[ConfigProblem] = []
    for file in files:
        try:
            specs[file] = read_spec(file, allow_raw=allow_raw_kind)
        except ConfigError as wrong:
            problems += wrong.problems
    if problems:
        raise ConfigError("not every cluster file can be used", problems=problems)
    data: dict[str, Any] = {file: spec.as_json() for file, spec in specs.items()}
    console.data(
        data, lambda: "\n".join(f"{file}: cluster {spec.name}, fine" for file, spec in specs.items())
    )


@config.command()
@click.pass_obj
def schema(console: Console) -> None:
    """Print the JSON Schema of a cluster file, for an editor."""
    from labctl.cluster.file import specfile

    console.raw(json.dumps(specfile.schema(), indent=2))
