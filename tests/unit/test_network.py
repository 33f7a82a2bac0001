"""Network plugins and load balancers: what they change in upstream's manifests, and the address pools."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.cluster.file import specfile
from labctl.errors import CommandFailed, Conflict
from labctl.images.node import NodeImage
from labctl.network import addons, flannel, metallb
from labctl.network import pool as pools
from labctl.network.addon import LOAD_BALANCER, NETWORK, Addon, Facts, Phase, established
from labctl.network.flannel import FLANNEL
from labctl.network.install import install
from labctl.network.kubeadm import COREDNS, KUBE_PROXY, NONE
from labctl.network.metallb import METALLB
from labctl.network.site import InstallSite
from labctl.process import Completed
from labctl.progress import Progress, Quiet
from labctl.tools.docker import Docker
from labctl.tools.kubectl import NodeKubectl

UPSTREAM_FLANNEL = """
kind: ConfigMap
apiVersion: v1
metadata: {name: kube-flannel-cfg}
data:
  net-conf.json: '{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}'
---
kind: DaemonSet
apiVersion: apps/v1
metadata: {name: kube-flannel-ds}
spec:
  template:
    spec:
      initContainers: [{name: install-cni-plugin}, {name: install-cni}]
      containers: [{name: kube-flannel, volumeMounts: []}]
"""

UPSTREAM_METALLB = """
kind: ValidatingWebhookConfiguration
---
kind: Deployment
spec:
  template: {spec: {containers: [{name: controller, args: [], readinessProbe: {initialDelaySeconds: 10}}]}}
---
kind: DaemonSet
spec: {template: {spec: {containers: [{name: speaker, args: [], readinessProbe: {initialDelaySeconds: 10}}]}}}
"""


def documents(text: str) -> dict[str, Any]:
    return {one["kind"]: one for one in yaml.safe_load_all(text) if one}


def test_flannel_writes_its_configuration_only_after_the_subnet_is_known() -> None:
    out = documents(
        flannel.objects(UPSTREAM_FLANNEL, Facts("10.9.0.0/16", "c-control-plane", frozenset({"flannel"})))
    )
    spec = out["DaemonSet"]["spec"]["template"]["spec"]
    assert spec["initContainers"] == []
    agent = spec["containers"][0]
    command = agent["lifecycle"]["postStart"]["exec"]["command"][-1]
    assert command.index("subnet.env") < command.index("cp -f")
    assert {"name": "KUBERNETES_SERVICE_HOST", "value": "c-control-plane"} in agent["env"]
    assert agent["volumeMounts"] == [{"name": "cni", "mountPath": "/etc/cni/net.d"}]
    assert '"10.9.0.0/16"' in out["ConfigMap"]["data"]["net-conf.json"]


def test_flannel_keeps_its_installer_where_the_nodes_lack_the_program() -> None:
    facts = Facts("10.9.0.0/16")
    out = documents(flannel.objects(UPSTREAM_FLANNEL, facts))
    names = [one["name"] for one in out["DaemonSet"]["spec"]["template"]["spec"]["initContainers"]]
    assert names == ["install-cni-plugin"]
    assert "flannel-cni-plugin" in FLANNEL.images(facts)
    assert "bridge" in FLANNEL.programs


def test_metallb_has_no_webhook_and_its_speakers_share_a_key() -> None:
    out = documents(metallb.objects(UPSTREAM_METALLB, Facts("10.9.0.0/16", "c-control-plane")))
    assert "ValidatingWebhookConfiguration" not in out
    assert "--webhook-mode=disabled" in out["Deployment"]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert out["Secret"]["metadata"] == {"name": "memberlist", "namespace": "metallb-system"}
    speaker = out["DaemonSet"]["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "KUBERNETES_SERVICE_HOST", "value": "c-control-plane"} in speaker["env"]
    assert "env" not in out["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    other = documents(metallb.objects(UPSTREAM_METALLB, Facts("10.9.0.0/16", "c-control-plane")))
    assert out["Secret"]["stringData"] != other["Secret"]["stringData"]


def test_metallb_gets_its_pool() -> None:
    out = documents(metallb.pool("", Facts("", pool=pools.pool("172.18.0.0/16", 0))))
    assert out["IPAddressPool"]["spec"]["addresses"] == ["172.18.254.224-172.18.254.255"]
    assert out["L2Advertisement"]["spec"]["ipAddressPools"] == [out["IPAddressPool"]["metadata"]["name"]]


@settings(deadline=None)
@given(st.integers(12, 26), st.integers(0, 2**32 - 1), st.integers(0, 3), st.integers(0, 3))
def test_pools_lie_in_the_upper_half_and_never_overlap(prefix: int, base: int, one: int, other: int) -> None:
    network = ipaddress.IPv4Network((base, prefix), strict=False)
    mine, theirs = pools.pool(str(network), one), pools.pool(str(network), other)
    assert (mine.first <= theirs.last and theirs.first <= mine.last) == (one == other)
    for address in (mine.first, mine.last):
        assert address in network
        assert address != network.broadcast_address
        assert int(address) >= int(network.network_address) + network.num_addresses // 2
    assert pools.parse(str(mine)) == mine
    assert len(mine) >= 4


def test_a_full_network_is_refused() -> None:
    pools.pool("172.18.0.0/24", 6)
    with pytest.raises(Conflict) as caught:
        pools.pool("172.18.0.0/24", 7)
    assert "--load-balancer none" in caught.value.next_step


def test_the_pool_knows_its_addresses() -> None:
    pool = pools.parse("10.0.0.10-10.0.0.20")
    assert "10.0.0.20" in pool
    assert "10.0.0.21" not in pool
    assert "nonsense" not in pool
    with pytest.raises(ValueError, match="ends before"):
        pools.parse("10.0.0.20-10.0.0.10")
    assert pools.first_ipv4(("fc00::/64", "172.18.0.0/16")) == "172.18.0.0/16"


@pytest.mark.parametrize("table", [addons.CNIS, addons.LOAD_BALANCERS])
def test_every_entry_is_known_by_its_own_name_and_none_provides_nothing(table: dict[str, Addon]) -> None:
    assert all(name == one.name for name, one in table.items())
    assert table["none"].provides == frozenset()
    for one in table.values():
        assert bool(one.provides) == bool(one.ready_when), "what provides something can be waited for"


def test_an_addon_that_only_a_newer_labctl_knows_provides_what_it_was_chosen_for() -> None:
    assert NETWORK in addons.cni("tomorrow").provides
    assert LOAD_BALANCER in addons.load_balancer("tomorrow").provides
    assert NETWORK not in addons.cni("none").provides


# --- the one procedure


BUILT = NodeImage("node:image", "recipe", "built", "v1.37.2")


class NodeDocker(Docker):
    """Keeps what is run in the nodes; refuses the first applications in a young API server's words."""

    def __init__(self) -> None:
        super().__init__("no-docker-here")
        self.ran: list[list[str]] = []
        self.applied: list[str] = []
        self.young = 0

    def exec(self, container: str, argv: Sequence[str], *, stdin: Any = None, **_: Any) -> Completed:
        self.ran.append(list(argv))
        if "apply" in argv:
            if self.young:
                self.young -= 1
                raise CommandFailed(
                    argv, 1, "", "The connection to the server was refused: connection refused"
                )
            self.applied.append(str(stdin))
        return Completed(tuple(argv), 0, "rendered: chart" if argv[0] == "helm" else "", "", 0.1)


def site(docker: NodeDocker, image: NodeImage = BUILT) -> InstallSite:
    return InstallSite(
        docker, ("c-control-plane",), NodeKubectl(docker, "c-control-plane"), image, Facts("10.9.0.0/16")
    )


def test_phases_are_applied_in_order_and_each_waits_for_its_condition() -> None:
    docker = NodeDocker()
    addon = Addon(
        "made-up",
        frozenset({LOAD_BALANCER}),
        source=lambda *_: "published",
        phases=(
            Phase(then=established("pools.made.up", "peers.made.up")),
            Phase(lambda text, facts: f"{text} and {facts.pod_subnet}"),
        ),
    )
    install(addon, site(docker), Quiet())
    assert docker.applied == ["published", "published and 10.9.0.0/16"]
    verbs = [next(word for word in argv if word in {"apply", "wait"}) for argv in docker.ran]
    assert verbs == ["apply", "wait", "apply"]
    assert docker.ran[1][-2:] == ["crd/pools.made.up", "crd/peers.made.up"]


def test_a_chart_is_a_source_like_any_other() -> None:
    def chart(where: InstallSite, _: Progress) -> str:
        return where.docker.exec(where.nodes[0], ["helm", "template", "/charts/made-up"]).stdout

    docker = NodeDocker()
    install(Addon("made-up", frozenset({NETWORK}), source=chart, phases=(Phase(),)), site(docker), Quiet())
    assert docker.applied == ["rendered: chart"]


def test_a_young_api_server_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.network.install.APPLY_EVERY_SECONDS", 0.01)
    docker = NodeDocker()
    docker.young = 2
    install(
        Addon("made-up", frozenset({NETWORK}), phases=(Phase(lambda *_: "objects"),)), site(docker), Quiet()
    )
    assert docker.applied == ["objects"]


def test_what_installs_itself_is_left_alone() -> None:
    docker = NodeDocker()
    for addon in (KUBE_PROXY, COREDNS, NONE):
        install(addon, site(docker), Quiet())
    assert docker.ran == []


def test_metallb_s_pool_comes_after_its_definitions() -> None:
    controller, addresses = METALLB.phases
    assert controller.then is not None
    assert {"crd/ipaddresspools.metallb.io", "crd/l2advertisements.metallb.io"} == set(
        controller.then.objects
    )
    assert addresses.then is None


# --- the one table, and what is written elsewhere


ROOT = Path(__file__).resolve().parents[2]


def test_what_is_written_of_the_addons_agrees_with_the_table() -> None:
    readme, cli = (ROOT / "README.md").read_text(), (ROOT / "docs" / "cli.md").read_text()
    for key, option, table in (
        ("cni", "CNI plugin", addons.CNIS),
        ("loadBalancer", "Load balancer", addons.LOAD_BALANCERS),
    ):
        assert re.search(rf"^{key}: +\S+ +# {re.escape(' | '.join(table))}$", readme, re.MULTILINE), key
        assert f"{option}: {' or '.join(table)}." in cli
        assert specfile.schema()["properties"][key]["enum"] == list(table)
        shipped = [yaml.safe_load(path.read_text())[key] for path in specfile.shipped().values()]
        assert set(shipped) == set(table), "a cluster file for each, and none for anything else"
