"""The nodes: kind makes them, and what was asked of them is read back from them."""

from __future__ import annotations

from collections.abc import Callable

from labctl import paths
from labctl.cluster.kubeconfig import API_PORT
from labctl.cluster.mark import Mark
from labctl.cluster.spec import ClusterSpec
from labctl.cluster.up.kindconfig import MachineNeeds
from labctl.errors import InfrastructureError
from labctl.tools.docker import Docker
from labctl.tools.kind import Kind, KindStage


def create(
    kind: Kind,
    mark: Mark,
    config: str,
    *,
    timeout: float,
    on_event: Callable[[str], None],
    on_stage: Callable[[KindStage], None],
) -> None:
    """Let kind make the cluster of ``mark`` within ``timeout`` seconds. Raises what kind's failure means.

    kind writes a kubeconfig and a lock beside it; both go: ours is composed from the node's own.
    """
    scratch = paths.cluster_state(mark.cluster) / "kind-kubeconfig"
    try:
        kind.create_cluster(
            name=mark.cluster,
            config=config,
            image=mark.image,
            kubeconfig=scratch,
            timeout=timeout,
            on_event=on_event,
            on_stage=on_stage,
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
