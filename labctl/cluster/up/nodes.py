"""The step in which kind makes the nodes, and what was asked of them is read back from them."""

from __future__ import annotations

from dataclasses import replace

from labctl import paths, progress
from labctl.cluster import lock, mark, shared
from labctl.cluster.kubeconfig import API_PORT
from labctl.cluster.spec import ClusterSpec
from labctl.cluster.up import demands, kindconfig, plan
from labctl.cluster.up.background import Background
from labctl.cluster.up.context import Context
from labctl.cluster.up.kindconfig import MachineNeeds
from labctl.cluster.up.step import UpStep
from labctl.errors import InfrastructureError
from labctl.tools.docker import Docker
from labctl.tools.kind import KindStage
from labctl.waiting import NotYet, until

NETWORK = "kind"
"""The docker network that kind makes and all its clusters share."""


def create(run: Context, shown: progress.Step) -> None:
    """Let kind make the nodes. Raises what kind's failure means, `InfrastructureError` for a setting that is lost."""
    forced = demands.of_nodes(run.docker)
    kind = Background("kind makes the nodes", lambda: _kind(run, forced, shown), run.stop)
    try:
        # The slot stays ours from here on: it is in the mark.
        with lock.everything():
            plan.refuse_rivals(run.spec.name, run.docker)
            run.mark = replace(run.mark, slot=mark.free_slot(run.docker))
            run.left.marked = True  # before it is: an interrupt may leave a part of the mark
            mark.put(run.docker, run.mark)
            new_network = run.docker.network(NETWORK) is None
            run.left.in_kind = True
            kind.start()
            # Two kinds that start side by side would each make the network: nobody else starts before it is
            # there. kind runs in the other thread so that this one, which took the lock, gives it back.
            if new_network:
                until(
                    lambda: _network(run, kind), what="the docker network exists", within=run.deadline.left()
                )
        kind.finish(run.deadline)
        run.left.in_kind = False
    finally:
        if not kind.ended:
            kind.end()  # an interrupt reaches this thread only
    read_back(run.docker, run.spec, forced)
    run.left.containers = tuple(one.id for one in run.docker.containers({mark.KIND_CLUSTER: run.spec.name}))
    shown.result(f"kind {run.kind.version()}, {run.mark.node_image}")


def _network(run: Context, kind: Background) -> None:
    if not kind.ended and run.docker.network(NETWORK) is None:
        raise NotYet("kind has not made it yet")


def _kind(run: Context, forced: MachineNeeds, shown: progress.Step) -> None:
    """kind writes a kubeconfig and a lock beside it; both go: ours is composed from the node's own."""
    config = kindconfig.render(
        run.spec,
        forced,
        shared_directory=shared.make(run.docker, run.mark),
    )

    def reached(stage: KindStage) -> None:
        if stage.outcome == "started":
            shown.note(stage.title)

    scratch = paths.cluster_state(run.spec.name) / "kind-kubeconfig"
    try:
        run.kind.create_cluster(
            name=run.spec.name,
            config=config,
            image=run.mark.image,
            kubeconfig=scratch,
            timeout=run.deadline.left(),
            on_event=run.left.said.append,
            on_stage=reached,
            cancel=run.stop,
        )
    finally:
        for path in (scratch, scratch.with_name(scratch.name + ".lock")):
            path.unlink(missing_ok=True)


def read_back(docker: Docker, spec: ClusterSpec, wanted: MachineNeeds) -> None:
    """Look whether the nodes are as asked for. Raises `InfrastructureError`.

    Patches can be dropped without a word, and the API server must listen on this machine only.
    """
    for node in spec.node_names():
        checks = {
            "failCgroupV1: false": "/var/lib/kubelet/config.yaml" if wanted.cgroup_v1 else "",
            "restrict_oom_score_adj = true": "/etc/containerd/config.toml"
            if wanted.restrict_oom_score_adj
            else "",
        }
        for text, file in checks.items():
            if file and not docker.exec(node, ["grep", "-q", text, file], check=False).ok:
                raise InfrastructureError(
                    f"node {node} does not have the setting `{text}`",
                    why=f"it is not in {file}: the patch was dropped",
                    next_step="please report this with the version of kind (`labctl doctor`)",
                )
    for described in docker.inspect(*spec.node_names()[: spec.control_planes]):
        for bound in (described["NetworkSettings"]["Ports"] or {}).get(API_PORT) or ():
            if bound["HostIp"] not in {"127.0.0.1", "::1"}:
                raise InfrastructureError(
                    "the API server listens on other addresses than this machine's own",
                    why=f"{described['Name'].lstrip('/')} is published on {bound['HostIp']}",
                    next_step="please report this with the version of kind (`labctl doctor`)",
                )


STEP = UpStep("nodes", create, title="Create {spec.nodes} node(s)", changes="the new cluster")
