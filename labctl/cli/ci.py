"""`labctl ci`: doctor, up, proof, labs, down, with one exit code and reports whatever happens."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from labctl.cli.options import (
    image_option,
    output_option,
    raw_option,
    skip_option,
    source_option,
    strict_option,
)
from labctl.console import Console
from labctl.errors import WriteFailed

if TYPE_CHECKING:
    from labctl.cluster.spec import ClusterSpec
    from labctl.lab.engine.loader import LabFile

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("config", default="three-nodes")
@click.option("--name", metavar="NAME", help="Another name for the cluster than the file gives it.")
@click.option(
    "--labs",
    "words",
    multiple=True,
    metavar="LAB",
    help="Labs to run: 9, 9-15, volume, 9,11-13 (default: all; none: only the proof).",
)
@click.option(
    "--labs-dir",
    "folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the labs are (default: labs/ here or above, else labctl's own).",
)
@click.option("--junit", type=FILE, metavar="FILE", help="Write a JUnit XML report.")
@click.option("--html", type=FILE, metavar="FILE", help="Write a report as one HTML page.")
@click.option(
    "--summary", type=FILE, metavar="FILE", help="Append a report in Markdown ($GITHUB_STEP_SUMMARY)."
)
@click.option(
    "--keep",
    type=click.Choice(["never", "on-failure", "always"]),
    default="never",
    show_default=True,
    help="When the cluster may outlive the run. One that ran before is never deleted.",
)
@click.option(
    "--bundle",
    "bundles",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where what is collected after a failure goes (default: among labctl's state).",
)
@skip_option
@strict_option
@source_option
@image_option
@raw_option
@output_option
@click.pass_obj
def ci(
    console: Console,
    config: str,
    name: str | None,
    words: tuple[str, ...],
    folder: Path | None,
    junit: Path | None,
    html: Path | None,
    summary: Path | None,
    keep: Literal["never", "on-failure", "always"],
    bundles: Path | None,
    skip: tuple[str, ...],
    strict: bool,
    source: Literal["auto", "present", "pull", "build"],
    image: str,
    allow_raw_kind: bool,
) -> int:
    """Doctor, up, proof, labs, down: one command, one exit code.

    CONFIG is a cluster file or the name of one that ships with labctl. On any failure, what explains it is
    collected before the cluster is deleted, and its path is printed. Exit codes: 0 proven, 1 a lab's check
    failed, 3 the machine is not ready, 4 the infrastructure failed, 5 a deadline passed, 9 nothing was verified.
    """
    from labctl.ci.run import Run
    from labctl.ci.stages import RealStages
    from labctl.cluster import bundle
    from labctl.cluster.up.context import Options
    from labctl.report import data, text
    from labctl.report.files import Files

    spec = _spec(config, name, allow_raw_kind)
    with console.apart():
        labs = _labs(words, folder)
    files = Files(junit, html, summary)
    files.require_writable()
    options = Options(
        source=source,
        skip_checks=skip,
        image=image,
        keep_on_failure=keep != "never",
        bundle_directory=bundle.place(spec.name, bundles),
    )
    with contextlib.closing(RealStages(spec, labs, options, strict)) as stages, console.apart():
        report = Run(stages, console, keep=keep, with_labs=bool(labs)).go()
    console.data(data.as_json(report), lambda: text.report(report))
    try:
        files.write(report)
    except WriteFailed as error:  # the run is the news, unless it was good
        console.error(error)
        return report.exit_code or error.exit_code
    return report.exit_code


def _spec(config: str, name: str | None, allow_raw: bool) -> ClusterSpec:
    from labctl.cli.cluster import read_spec

    return read_spec(config, name=name, allow_raw=allow_raw)


def _labs(words: tuple[str, ...], folder: Path | None) -> tuple[LabFile, ...]:
    """The labs that the words name. They are loaded once here, so that a bad file is found before the work."""
    from labctl.lab.engine import loader
    from labctl.lab.engine.suite import load_all

    if words == ("none",):
        return ()
    found = loader.discover(loader.find_folder(folder))
    chosen = loader.select(found, words, everything=not words)
    load_all(chosen)
    return chosen
