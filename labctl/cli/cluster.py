"""`labctl up`, `down`, `status`, `ls`, `kubeconfig`, `shell`, `kubectl`: clusters and the way into them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labctl.cli.options import (
    cluster_option,
    cluster_words,
    clusters_words,
    image_option,
    output_option,
    raw_option,
    skip_option,
    source_option,
)
from labctl.console import Console
from labctl.errors import CleanupIncomplete, Conflict, LabctlError, UsageError
from labctl.host.finding import Source

if TYPE_CHECKING:
    from labctl.cluster.running import Node, RunningCluster
    from labctl.cluster.spec import ClusterSpec
    from labctl.cluster.status import ClusterStatus, Listed
    from labctl.cluster.up.bringup import Up

DEFAULT = "three-nodes"


@click.command()
@click.argument("config", required=False)
@click.option("--name", metavar="NAME", help="The cluster's name, instead of the file's.")
@click.option("--workers", type=int, help="Worker nodes.")
@click.option(
    "--control-planes",
    type=int,
    help="Control-plane nodes: 1 or 3 (then kind needs an image from a registry).",
)
@click.option("--cni", metavar="PLUGIN", help="CNI plugin: flannel or none.")
@click.option("--load-balancer", metavar="NAME", help="Load balancer: metallb or none.")
@click.option("--replace", "replace_", is_flag=True, help="Delete what runs under this name first.")
@click.option("--force", is_flag=True, help="With --replace: even a cluster that labctl did not make.")
@click.option("--keep-on-failure", is_flag=True, help="Leave the ruins standing when it does not work.")
@skip_option
@source_option
@image_option
@raw_option
@output_option
@click.pass_obj
def up(
    console: Console,
    /,
    config: str | None,
    replace_: bool,
    force: bool,
    keep_on_failure: bool,
    skip: Sequence[str],
    source: Source,
    image: str,
    allow_raw_kind: bool,
    **flags: Any,
) -> None:
    """Create a cluster and prove that its network works; do nothing where it runs already.

    CONFIG is a cluster file (with a slash or the ending .yaml) or the name of one that ships with labctl:
    three-nodes (the default), single, two-nodes, no-cni, no-load-balancer, host-port. Options win over the file.
    """
    from labctl.cluster.up.bringup import up as bring_up
    from labctl.cluster.up.context import Options

    spec = read_spec(config, allow_raw=allow_raw_kind, **flags)
    options = Options(
        replace=replace_,
        force=force,
        skip_checks=tuple(skip),
        image=image,
        source=source,
        keep_on_failure=keep_on_failure,
    )
    done = bring_up(spec, options, console)
    console.data(_up_data(done), lambda: _up_text(done))


def read_spec(config: str | None, *, allow_raw: bool = False, **flags: Any) -> ClusterSpec:
    """The spec of a cluster file with the command line's options over it. Raises `ConfigError`, `UsageError`."""
    from labctl.cluster.file import specfile
    from labctl.cluster.spec import complaints

    spec = specfile.load(specfile.locate(config or DEFAULT), allow_raw=allow_raw)
    if config is None:
        spec = replace(spec, name="labctl")
    given = {key: value for key, value in flags.items() if value is not None}
    if given.get("cni") == "none":
        given.setdefault("load_balancer", "none")  # its controller could not start
    spec = replace(spec, **given)
    if wrong := complaints(spec):
        raise UsageError(
            "no such cluster can be made",
            why="; ".join(wrong),
            next_step="`labctl up --help` lists what is possible",
        )
    return spec


@click.command()
@clusters_words
@click.option("--all", "everything", is_flag=True, help="Every cluster of labctl's.")
@click.option("--force", is_flag=True, help="Even a cluster that labctl did not make.")
@output_option
@click.pass_obj
def down(console: Console, names: Sequence[str], everything: bool, force: bool) -> None:
    """Delete a cluster and everything that belongs to it. Deleting what is not there is no error."""
    from labctl.cluster import status as state
    from labctl.cluster import teardown

    known = state.names()
    if not names and not everything and len(known) > 1:
        raise UsageError(
            "several clusters run here", why=", ".join(known), next_step="name one, or use --all"
        )
    deleted = []
    failures: list[LabctlError] = []
    for name in names or known:
        try:
            deleted.append(teardown.down(name, console, force=force))
        except LabctlError as failed:
            if not everything and len(names) < 2:
                raise
            failures.append(failed)
    console.data(
        {"deleted": [asdict(one) for one in deleted]},
        lambda: (
            "\n".join(
                f"cluster {one.name}: {f'{len(one.containers)} container(s) deleted' if one.found else 'not there'}"
                for one in deleted
            )
            or "no cluster of labctl's is here"
        ),
    )
    if failures:
        raise failures[0] if len(failures) == 1 else _all_of(failures)


@click.command()
@cluster_words
@output_option
@click.pass_obj
def status(console: Console, name: str | None) -> int:
    """Show what runs and what does not. Exit code 0 when all is well, 4 or 7 when not."""
    from labctl.cluster.status import status as look

    seen = look(name)
    console.data(_status_data(seen), lambda: _status_text(seen))
    return seen.exit_code


@click.command()
@output_option
@click.pass_obj
def ls(console: Console) -> None:
    """List the clusters on this machine, those of plain kind too."""
    from labctl.cluster.status import every

    found = every()
    console.data({"clusters": [asdict(one) for one in found]}, lambda: _list_text(found))


@click.command()
@cluster_words
@click.pass_obj
def kubeconfig(console: Console, name: str | None) -> None:
    """Print the path of a cluster's kubeconfig, renewed where it was stale."""
    from labctl.cluster.condition import usable

    console.raw(str(usable(name).kubeconfig))


@click.command()
@cluster_words
@click.pass_obj
def shell(console: Console, name: str | None) -> int:
    """Open a shell with KUBECONFIG set to a cluster's; kubectl is the node's where the machine has none."""
    from labctl import process
    from labctl.cluster.condition import usable

    cluster = usable(name)
    env = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    if process.which("kubectl") is None:
        env["PATH"] = f"{_kubectl_directory(cluster)}{os.pathsep}{env.get('PATH', '')}"
    console.say(f"cluster {cluster.name}; leave with `exit`")
    return process.run_attached([os.environ.get("SHELL") or "/bin/sh"], env=env)


@click.command(context_settings={"ignore_unknown_options": True})
@cluster_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def kubectl(name: str | None, arguments: Sequence[str]) -> int:
    """Run kubectl on the control plane: labctl kubectl -- get pods -A

    Its exit code is ours.
    """
    from labctl.cluster.condition import usable
    from labctl.tools.docker import Docker
    from labctl.tools.kubectl import NodeKubectl

    cluster = usable(name)
    plane = cluster.control_planes[0].container
    assert plane is not None
    return NodeKubectl(Docker(), plane).run_attached(arguments)


# --- helpers


def _kubectl_directory(cluster: RunningCluster) -> Path:
    from labctl import files
    from labctl.errors import shell_line

    script = cluster.kubeconfig.parent / "bin" / "kubectl"
    call = shell_line([sys.executable, "-m", "labctl", "kubectl", f"--name={cluster.name}", "--"])
    files.write(script, f'#!/bin/sh\nexec {call} "$@"\n')
    script.chmod(0o700)
    return script.parent


def _all_of(failures: Sequence[LabctlError]) -> LabctlError:
    """One error for several; all of one kind keep their kind and exit code."""
    what = f"{len(failures)} clusters could not be deleted"
    said = [str(one) for one in failures]
    if {type(one) for one in failures} == {Conflict}:
        return Conflict(what, why="; ".join(said), next_step=failures[0].next_step)
    return CleanupIncomplete(what, leftovers=said, next_step="`labctl status NAME` looks at each of them")


def _node_data(node: Node) -> dict[str, str]:
    return {"name": node.name, "role": node.role, "state": node.state, "address": node.address}


def _up_data(done: Up) -> dict[str, Any]:
    from labctl.ci.stages import as_check

    cluster = done.cluster
    return {
        "name": cluster.name,
        "action": done.plan.action,
        "kubernetes": done.kubernetes,
        "cni": cluster.cni,
        "load_balancer": cluster.load_balancer,
        "pool": cluster.pool,
        "kubeconfig": str(cluster.kubeconfig),
        "nodes": [_node_data(node) for node in cluster.nodes],
        "proof": [asdict(as_check(one)) for one in done.proof.proofs] if done.proof else None,
        "seconds": done.seconds,
    }


def _up_text(done: Up) -> str:
    cluster = done.cluster
    if done.plan.action == "nothing":
        return f"cluster {cluster.name}: nothing to do, {done.plan.reason}"
    proven = "proven" if done.proof else "not proven"
    return (
        f"cluster {cluster.name}: Kubernetes {done.kubernetes}, {len(cluster.control_planes)} control plane(s) and "
        f"{len(cluster.workers)} worker(s), network {proven}, {done.total:.0f} s\n"
        f"  labctl kubectl --name {cluster.name} -- get nodes\n  labctl shell {cluster.name}\n  labctl lab list"
    )


def _status_data(seen: ClusterStatus) -> dict[str, Any]:
    return {
        "name": seen.name,
        "state": seen.state,
        "said": seen.said,
        "next_step": seen.next_step,
        "phase": seen.phase,
        "spec": seen.spec.as_json() if seen.spec else None,
        "nodes": [_node_data(node) for node in seen.nodes],
        "pool": seen.pool,
        "kubeconfig": seen.kubeconfig,
        "readiness": [asdict(one) for one in seen.rungs],
        "seconds": seen.seconds,
    }


def _status_text(seen: ClusterStatus) -> str:
    lines = [f"cluster {seen.name}: {seen.state}" + (f" ({seen.said})" if seen.said else "")]
    if seen.next_step:
        lines.append(f"  next: {seen.next_step}")
    if seen.spec:
        lines.append(f"  CNI {seen.spec.cni}, load balancer {seen.spec.load_balancer} {seen.pool}".rstrip())
    lines += [
        f"  {node.name:<32} {node.role:<14} {node.state:<10} {node.address}".rstrip() for node in seen.nodes
    ]
    lines += [f"  {'ok  ' if rung.holds else 'FAIL'} {rung.title}: {rung.seen}" for rung in seen.rungs]
    return "\n".join(lines)


def _list_text(found: Sequence[Listed]) -> str:
    if not found:
        return "no clusters"
    rows = [("NAME", "STATE", "NODES", "CNI", "LOAD BALANCER")]
    rows += [
        (one.name, one.state, f"{one.running}/{one.nodes}", one.cni or "-", one.load_balancer or "-")
        for one in found
    ]
    widths = [max(len(row[at]) for row in rows) for at in range(5)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
