"""The step that installs the addons, beside kind: the API server answers long before the last node has joined."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from labctl import progress
from labctl.cluster import mark
from labctl.cluster.up import nodes
from labctl.cluster.up.context import Context
from labctl.cluster.up.step import UpStep
from labctl.errors import CommandFailed, CommandTimedOut, InfrastructureError, Interrupted, NodeDown
from labctl.network import pool as pools
from labctl.network.addon import LOAD_BALANCER, Addon, Facts
from labctl.network.install import install as install_addon
from labctl.network.pool import Pool
from labctl.network.site import InstallSite
from labctl.progress import Quiet
from labctl.tools.kubectl import SUPER_ADMIN, NodeKubectl
from labctl.waiting import NotYet, until

T = TypeVar("T")

ASK_SECONDS = 10.0
LOOK_SECONDS = 0.5
ASK_EVERY_SECONDS = 2.0
"""Between two looks: each starts two programs beside a kubeadm that needs the cores."""


def await_api(run: Context) -> None:
    """Wait until the API server answers in the first control plane. Raises `Interrupted` when the run ends.

    It answers 8-9 s before kind says so: kubeadm then waits, uploads and installs its own addons.
    """
    kubectl = until(
        lambda: _while_wanted(run, lambda: _first_plane(run)),
        what="the control plane's container is there",
        within=run.deadline.left(),
        every=LOOK_SECONDS,
    )
    until(
        lambda: _while_wanted(run, lambda: kubectl.run(["get", "--raw=/readyz"], timeout=ASK_SECONDS)),
        what="the API server answers in its node",
        within=run.deadline.left(),
        # Each question starts a kubectl in the node, a third of a second of a core that kubeadm needs now.
        every=ASK_EVERY_SECONDS,
    )


def _while_wanted(run: Context, look: Callable[[], T]) -> T:
    if run.stop.is_set():
        raise Interrupted
    try:
        return look()
    except (NodeDown, CommandFailed, CommandTimedOut) as silent:
        raise NotYet(silent.why) from silent


def _first_plane(run: Context) -> NodeKubectl:
    """kubectl in the first control plane of *this* run: one of that name may be another's, and is not touched.

    Raises `NodeDown`.
    """
    name = run.spec.node_names()[0]
    docker = run.docker.cancelled_by(run.stop)
    for one in docker.containers({mark.KIND_CLUSTER: run.spec.name, mark.OWNER: run.mark.owner}):
        if one.name == name:
            return NodeKubectl(docker, one.id, SUPER_ADMIN)
    raise NodeDown(f"there is no container {name} of this run")


def install(run: Context, _: progress.Step) -> None:
    """Install each addon that labctl sees to. Raises what `labctl.network.install.install` does."""
    assert run.image is not None
    balanced = run.spec.provides(LOAD_BALANCER)
    facts = Facts(run.spec.pod_subnet, run.spec.api_server, pool=pool(run) if balanced else None)
    kubectl = _first_plane(run)
    site = InstallSite(kubectl.docker, run.spec.node_names(), kubectl, run.image, facts)
    cni, balancer = run.spec.addons
    for title, addon in ((f"CNI {cni.name}", cni), (f"load balancer {balancer.name}", balancer)):
        if addon.phases:
            _install(run, title, addon, site)


def _install(run: Context, title: str, addon: Addon, site: InstallSite) -> None:
    with run.progress.step(f"Install {title}") as shown:
        install_addon(addon, site, Quiet())
        shown.result("while the nodes joined" if run.left.in_kind else "applied")


def pool(run: Context) -> Pool:
    """The load balancer's addresses. Raises `Conflict`, `InfrastructureError`."""
    network = run.docker.network(nodes.NETWORK)
    subnet = pools.first_ipv4(network.subnets) if network else ""
    if not subnet:
        raise InfrastructureError(
            f"the docker network {nodes.NETWORK} has no IPv4 subnet",
            next_step="ask for `--load-balancer none`, or delete that network when no cluster uses it",
        )
    return pools.pool(subnet, run.mark.slot)


STEP = UpStep("network", install, changes="the new cluster", beside=nodes.STEP.name, awaits=await_api)
