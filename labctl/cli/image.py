"""`labctl image`: what images there are, and how to get them here ahead of `labctl up`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from labctl.cli.options import Group, output_option
from labctl.console import Console


@click.group(cls=Group)
def image() -> None:
    """List, build, pull and load images."""


@image.command("list")
@output_option
@click.pass_obj
def list_(console: Console) -> None:
    """Show every image and manifest of the lock file, its identity, and which node image is here."""
    from labctl.images import inventory
    from labctl.tools.docker import Docker

    rows = inventory.survey(Docker())
    console.data([asdict(row) for row in rows], lambda: _table(rows))


@image.command()
@click.option("--fresh", is_flag=True, help="Forget what earlier builds made; Go's own caches stay.")
@output_option
@click.pass_obj
def build(console: Console, fresh: bool) -> None:
    """Build the node image from Go modules and Debian packages; no container registry is needed.

    Does nothing when the image is here. A build that was interrupted goes on where it stopped.
    """
    from labctl.images import nodeimage
    from labctl.tools.docker import Docker

    found = nodeimage.built(Docker(), console, fresh=fresh)
    console.data(asdict(found), lambda: _line(found))


@image.command()
@output_option
@click.pass_obj
def pull(console: Console) -> None:
    """Pull the node image that kind pins, by its digest."""
    from labctl.images import nodeimage
    from labctl.tools.docker import Docker

    found = nodeimage.pull(Docker(), console)
    console.data(asdict(found), lambda: _line(found))


@image.command()
@click.argument("archive", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@output_option
@click.pass_obj
def load(console: Console, archive: Path) -> None:
    """Load an archive that `docker save` wrote on another machine, and check whose image it is."""
    from labctl.images import nodeimage
    from labctl.tools.docker import Docker

    found = nodeimage.load(Docker(), archive, console)
    console.data(asdict(found), lambda: _line(found))


def _line(found: Any) -> str:
    return f"{found.reference}  Kubernetes {found.kubernetes}, {found.origin}, identity {found.identity[:23]}"


def _table(rows: Any) -> Any:
    from rich.table import Table

    table = Table("name", "kind", "reference", "identity", "here", box=None, header_style="bold")
    for row in rows:
        table.add_row(row.name, row.kind, row.reference, row.identity, row.here)
    return table
