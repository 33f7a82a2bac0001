"""`labctl lab`: list, show, run, verify, reset and prove labs.

It turns words into lab files and a cluster, calls labctl.lab.engine.suite and renders. Listing and showing
read files only, so they import nothing of Kubernetes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from labctl.cli.options import HERE, Group, labs_folder, output_option, renamed, strict_option
from labctl.console import Console
from labctl.errors import ConfigError, UsageError
from labctl.lab.engine import loader
from labctl.lab.engine.loader import LabFile

if TYPE_CHECKING:
    from labctl.lab.engine.suite import Suite, Verb

Command = TypeVar("Command", bound=Callable[..., Any])

LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
"""A language tag as RFC 5646 writes it, in its common forms; it becomes part of a file's name."""
WORDS = click.argument("words", nargs=-1, metavar="LAB...")
JOBS = click.option(
    "--jobs",
    type=click.IntRange(1, 64),
    metavar="N",
    default=None,
    callback=lambda _context, _option, value: value or 0,
    help="How many labs run side by side (default: as this machine's cores and memory allow).",
)
ALL = click.option("--all", "everything", is_flag=True, help="Every lab of the folder.")


def on_cluster(command: Command) -> Command:
    """The arguments of every command that works on a cluster."""
    options = (
        WORDS,
        ALL,
        labs_folder,
        renamed("--cluster", "--name", "name", HERE, metavar="NAME"),
        click.option(
            "--kubeconfig",
            type=click.Path(path_type=Path),
            metavar="PATH",
            help="Any cluster, known by its API alone.",
        ),
        click.option("--context", metavar="NAME", help="Which context of --kubeconfig."),
        output_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


def _language(_: click.Context, __: click.Parameter, value: str) -> str:
    if value and not LANGUAGE.fullmatch(value):
        raise click.BadParameter(f"{value!r} is no code of a language, such as ko or pt-BR")
    return value


@click.group(cls=Group)
def lab() -> None:
    """List, show, run, verify, reset and prove labs.

    \b
    LAB is a number (9), a range (9-15), a slug (volume) or several with commas (9,11-13).
    """


@lab.command("list")
@labs_folder
@output_option
@click.pass_obj
def list_(console: Console, folder: Path | None) -> None:
    """List the labs: number, slug, title, and the term of the study notes."""
    labs = loader.discover(loader.find_folder(folder))
    console.data([_row(one) for one in labs], lambda: _table(labs))
    problems = [one.problem for one in labs if one.problem]
    if problems:
        raise ConfigError("not every lab can be read", problems=problems)


@lab.command()
@WORDS
@labs_folder
@click.option(
    "--lang",
    default="",
    metavar="CODE",
    callback=_language,
    help="Another language of the story, where there is one (ko).",
)
@output_option
@click.pass_obj
def show(console: Console, words: tuple[str, ...], folder: Path | None, lang: str) -> None:
    """Tell a lab's story, its steps, checks and sabotages."""
    labs = loader.select(loader.discover(loader.find_folder(folder)), words)
    with console.apart():
        stories = [_story(one, lang) for one in labs]
    console.data(stories, lambda: "\n\n".join(_told(one) for one in stories))


@lab.command()
@on_cluster
@strict_option
@JOBS
@click.option("--fail-fast", is_flag=True, help="End each lab at the first check that does not hold.")
@click.pass_obj
def run(console: Console, /, strict: bool, **where: Any) -> int:
    """Run labs from the start: old objects away, steps, checks. The objects stay, to look at."""
    return _go(console, "run", strict=strict, **where)


@lab.command()
@on_cluster
@strict_option
@JOBS
@click.pass_obj
def verify(console: Console, /, strict: bool, **where: Any) -> int:
    """Look at the checks of labs that were run, and change nothing."""
    return _go(console, "verify", strict=strict, **where)


@lab.command()
@on_cluster
@strict_option
@JOBS
@click.option(
    "--changed",
    "changed_only",
    is_flag=True,
    help="Leave out the labs that are proved on record: file, engine and kind of cluster as they were.",
)
@click.pass_obj
def prove(console: Console, /, strict: bool, **where: Any) -> int:
    """Prove that labs cannot be fooled: every check fails before the steps and under its sabotage."""
    return _go(console, "prove", strict=strict, **where)


@lab.command()
@on_cluster
@click.pass_obj
def reset(console: Console, /, **where: Any) -> None:
    """Remove everything that labs have made, and wait until it is gone."""
    suite = _suite(console, **where)
    with console.apart():
        removed = suite.reset()
    console.data({"removed": removed}, lambda: f"{removed} object(s) removed")


@lab.command()
@click.argument("name", metavar="NN_SLUG")
@labs_folder
@click.pass_obj
def new(console: Console, name: str, folder: Path | None) -> None:
    """Begin a lab: write a file that runs, and whose proof fails until its check is written."""
    from labctl.lab import skeleton

    path = skeleton.write(folder or loader.own_folder(), name)
    console.data({"path": str(path)}, lambda: f"{path}: write it, then `labctl lab prove {path.name[:2]}`")


def _go(console: Console, verb: Verb, **where: Any) -> int:
    from labctl.cli import lab_text
    from labctl.lab.results import as_json

    suite = _suite(console, **where)
    suite.on_result = lambda ended: console.piece(lambda: lab_text.lab(ended))
    with console.apart():
        result = suite.go(verb)
    console.data(as_json(result), lambda: lab_text.summary(result, verb))
    return result.exit_code


def _suite(
    console: Console,
    *,
    words: tuple[str, ...],
    everything: bool,
    folder: Path | None,
    name: str | None,
    kubeconfig: Path | None,
    context: str | None,
    strict: bool = False,
    jobs: int = 0,
    changed_only: bool = False,
    fail_fast: bool = False,
) -> Suite:
    if kubeconfig and name:
        raise UsageError("--name or --kubeconfig, not both", next_step="leave one of them out")
    if context and not kubeconfig:
        raise UsageError("--context belongs to --kubeconfig", next_step="name the kubeconfig as well")
    files = loader.select(loader.discover(loader.find_folder(folder)), words, everything=everything)

    from labctl.cluster import running
    from labctl.lab.engine.suite import Suite
    from labctl.tools.docker import Docker

    docker = None if kubeconfig else Docker()
    there = running.from_kubeconfig(kubeconfig, context) if kubeconfig else running.find(name, docker=docker)
    return Suite(
        there,
        files,
        console,
        docker=docker,
        strict=strict,
        jobs=jobs,
        changed_only=changed_only,
        fail_fast=fail_fast,
    )


def _row(file: LabFile) -> dict[str, Any]:
    return {
        "number": file.number,
        "slug": file.slug,
        "title": file.title,
        "term": file.term,
        "path": str(file.path),
        "problem": str(file.problem) if file.problem else None,
    }


def _table(labs: tuple[LabFile, ...]) -> str:
    if not labs:
        return "no lab here"
    width = max(len(one.slug) for one in labs)
    return "\n".join(
        f"{one.number:02d}  {one.slug:<{width}}  {one.problem or one.title}"
        + (f"  ({one.term})" if one.term else "")
        for one in labs
    )


def _story(file: LabFile, language: str) -> dict[str, Any]:
    lab = loader.load(file)
    title, story = loader.translated(file, language) if language else (file.title, file.story)
    return {
        **_row(file),
        "title": title,
        "story": story,
        "namespaces": list(lab.namespaces or [f"lab{file.number:02d}"]),
        "touches": list(lab.touches),
        "needs": list(lab.needs),
        "steps": [{"id": one.id, "title": one.title} for one in lab.steps],
        "checks": [{"id": name, "title": title} for name, title in lab.statements.items()],
        "sabotages": [
            {"id": one.id, "title": one.title, "breaks": list(one.breaks)} for one in lab.sabotages
        ],
    }


def _told(story: dict[str, Any]) -> str:
    head = f"{story['number']:02d} {story['title']}" + (f"  ({story['term']})" if story["term"] else "")
    parts = [head, "=" * len(head), "", story["story"], ""]
    parts += _listed("Needs", story["needs"])
    parts += _listed("Steps", [one["title"] for one in story["steps"]], numbered=True)
    parts += _listed("Checks", [one["title"] for one in story["checks"]])
    parts += _listed(
        "Sabotages", [f"{one['title']}  (breaks {', '.join(one['breaks'])})" for one in story["sabotages"]]
    )
    parts += [f"Namespaces: {', '.join(story['namespaces'])}", f"File: {story['path']}"]
    return "\n".join(parts)


def _listed(title: str, lines: list[str], *, numbered: bool = False) -> list[str]:
    if not lines:
        return []
    return [
        title,
        *(f"  {f'{number}.' if numbered else '-'} {line}" for number, line in enumerate(lines, 1)),
        "",
    ]
