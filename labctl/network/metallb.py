"""MetalLB in layer 2 mode: one node answers ARP for each address of the pool.

Its webhook only checks the configuration, and waits up to a minute for a certificate to travel
through a Secret; labctl computes the pool itself, so the webhook is off. The speaker waits for
a Secret that the controller writes: it is made beforehand, so the two start side by side.
"""

from __future__ import annotations

import base64
import secrets

import yaml

from labctl.network.addon import LOAD_BALANCER, Addon, Facts, Phase, Workload, established
from labctl.network.documents import Document, container, edit, pod_spec, reach_api_directly
from labctl.network.install import upstream

NAMESPACE = "metallb-system"
POOL_NAME = "labctl"


def objects(published: str, facts: Facts) -> str:
    """Without the webhook, with quicker readiness probes, with the speakers' shared key."""
    return edit(published, lambda one: _change(one, facts)) + "---\n" + yaml.safe_dump(_shared_key())


def pool(_: str, facts: Facts) -> str:
    """One pool, announced on every node."""
    meta = {"name": POOL_NAME, "namespace": NAMESPACE}
    group = "metallb.io/v1beta1"
    return str(
        yaml.safe_dump_all(
            [
                {"apiVersion": group, "kind": "IPAddressPool", "metadata": meta,
                 "spec": {"addresses": [str(facts.pool)]}},
                {"apiVersion": group, "kind": "L2Advertisement", "metadata": dict(meta),
                 "spec": {"ipAddressPools": [POOL_NAME]}},
            ]
        )
    )  # fmt: skip


def _change(document: Document, facts: Facts) -> Document | None:
    kind = document["kind"]
    if kind == "ValidatingWebhookConfiguration":
        return None
    if kind == "Deployment":
        container(pod_spec(document), "controller")["args"].append("--webhook-mode=disabled")
    if kind == "DaemonSet":
        reach_api_directly(container(pod_spec(document), "speaker"), facts)
    if kind in {"Deployment", "DaemonSet"}:
        for one in pod_spec(document)["containers"]:
            one["readinessProbe"].update(initialDelaySeconds=1, periodSeconds=2)
    return document


def _shared_key() -> Document:
    key = base64.b64encode(secrets.token_bytes(128)).decode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "memberlist", "namespace": NAMESPACE},
        "stringData": {"secretkey": key},
    }


METALLB = Addon(
    name="metallb",
    provides=frozenset({LOAD_BALANCER}),
    ready_when=(
        Workload("Deployment", NAMESPACE, "controller"),
        Workload("DaemonSet", NAMESPACE, "speaker"),
    ),
    source=upstream("metallb"),
    phases=(
        Phase(objects, then=established("ipaddresspools.metallb.io", "l2advertisements.metallb.io")),
        Phase(pool),
    ),
    images=lambda _: ("metallb-controller", "metallb-speaker"),
)
