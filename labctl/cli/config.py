"""`labctl config`: render, validate, convert and describe cluster files. Needs neither docker nor a cluster."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
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
    """Render, validate, convert and describe cluster files."""


@config.command()
@click.argument("file")
@click.option("--portable", is_flag=True, help="Leave out what only this machine needs.")
@click.option(
    "--image", default="", metavar="REF", help="Write this node image into it (default: kind's own)."
)
@raw_option
@output_option
@click.pass_obj
def render(console: Console, file: str, portable: bool, image: str, allow_raw_kind: bool) -> None:
    """Print the plain kind configuration that FILE stands for: `kind create cluster --config -` takes it.

    FILE is a path, or the name of a cluster file that ships with labctl. What this machine needs is in it, such as
    a kubelet that accepts cgroup v1. A network plugin is not: kind's nodes wait for the one that you install.
    """
    from labctl.cluster.up import demands, kindconfig
    from labctl.tools.docker import Docker

    spec = read_spec(file, allow_raw=allow_raw_kind)
    needs = None if portable else demands.of_nodes_here(Docker())
    console.data(
        kindconfig.config(spec, needs, image=image), lambda: kindconfig.render(spec, needs, image=image)
    )


@config.command("from-kind")
@click.argument("file")
@output_option
@click.pass_obj
def from_kind(console: Console, file: str) -> None:
    """Print the cluster file for FILE, a configuration of kind's own (v1alpha4).

    What labctl cannot do is named with its line; what it decides itself is left out, and told.
    """
    from labctl.cluster.file import fromkind

    made = fromkind.convert(Path(file))
    for note in made.notes:
        console.say(note)
    console.data(made.data, lambda: made.text)


@config.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@raw_option
@output_option
@click.pass_obj
def validate(console: Console, files: Sequence[str], allow_raw_kind: bool) -> None:
    """Check cluster files and show every problem of each, with its line and column.

    kind's own settings are judged as kind, docker, kubeadm and the kubelet would. A relative hostPath of a mount is
    relative to the folder of its file, and must be there.
    """
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
