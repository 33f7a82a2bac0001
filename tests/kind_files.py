"""Settings of kind's own, each with what labctl says of it and what kind makes of it.

One table for two tests: tests/unit asks labctl, tests/cluster asks the real kind, whose docker creates
nothing. What must never be is a setting that labctl takes and kind refuses or drops.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["taken", "refused", "dropped"]
"""What kind does: go on to kubeadm, end before, or go on without what the setting says."""


@dataclass(frozen=True)
class KindFile:
    """``block`` is a file of kind's without its head. ``labctl`` is a part of what labctl finds wrong, '' for nothing.

    ``effect`` is a text that the setting must bring into what kind writes; ``why`` labctl refuses what kind takes.
    ``nodes`` are the control planes and workers of the cluster.
    """

    name: str
    block: str
    kind: Verdict = "taken"
    labctl: str = ""
    why: str = ""
    effect: str = ""
    nodes: tuple[int, int] = (1, 0)

    @property
    def for_kind(self) -> str:
        """The whole file as kind reads it."""
        return f"kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n{self.block}"

    @property
    def for_labctl(self) -> str:
        """The same under ``kindConfig`` of a cluster file."""
        planes, workers = self.nodes
        head = f"apiVersion: labctl.dev/v1\nkind: Cluster\nnodes: {{controlPlanes: {planes}, workers: {workers}}}\n"
        return f"{head}kindConfig:\n{textwrap.indent(self.block, '  ')}"


PAIR = "nodes:\n- role: control-plane\n- role: worker\n"
KUBELET = "only minutes later does the kubelet refuse to start"
KUBEADM = "kubeadm refuses it on the node"
DOCKER = "docker refuses it, or makes something else of it"
PROOF = "labctl neither installs nor proves such a network"
OWN = "another setting of labctl decides it"
WORDS = "Kubernetes takes text; what one YAML reads as a number or a truth value is to be in quotes"


def of_node(body: str) -> str:
    """The file of a cluster with one node that has these settings."""
    return "nodes:\n- role: control-plane\n" + textwrap.indent(body, "  ")


def of_worker(body: str) -> str:
    """The same for the second of two nodes."""
    return PAIR + textwrap.indent(body, "  ")


def port(body: str) -> str:
    """A node's one port mapping."""
    return of_node(f"extraPortMappings: [{{{body}}}]\n")


def mount(body: str) -> str:
    """A node's one mount."""
    return of_node(f"extraMounts: [{{{body}}}]\n")


def patch(text: str) -> str:
    """A patch for the whole cluster."""
    return "kubeadmConfigPatches:\n- |\n" + textwrap.indent(text, "  ")


def targeted(body: str) -> str:
    """A JSON patch for the whole cluster."""
    return f"kubeadmConfigPatchesJSON6902:\n- {{{body}}}\n"


def toml(text: str) -> str:
    """A patch of containerd's configuration."""
    return "containerdConfigPatches:\n- |\n" + textwrap.indent(text, "  ")


KIND_FILES = (
    # --- nodes and roles
    KindFile("two nodes", PAIR, nodes=(1, 1)),
    KindFile("a node without a role is a control plane", "nodes: [{labels: {tier: web}}]\n", effect="tier=web"),
    KindFile("a worker alone", "nodes: [{role: worker, labels: {tier: web}}]\n", "refused", "node 1 is a control-plane", nodes=(1, 1)),
    KindFile("the worker first", "nodes: [{role: worker}, {role: control-plane}]\n", labctl="they stand in order",
             why="labctl's nodes go by their order; `config from-kind` sorts them", nodes=(1, 1)),
    KindFile("a role that is none", "nodes: [{role: master}]\n", "refused", "role cannot be this"),
    KindFile("nodes as a mapping", "nodes: {role: control-plane}\n", "refused", "nodes cannot be this"),
    KindFile("a node that is a word", "nodes: [control-plane]\n", "refused", "a node cannot be this"),
    KindFile("an unknown key of a node", of_node("taints: []\n"), "refused", "unknown key in a node"),
    KindFile("an image of one node", of_node("image: example.com/node:1\n"), labctl="image is not to be set", why=OWN),
    KindFile("an unknown key", "network: {}\n", "refused", "unknown key in kindConfig"),
    # --- labels
    KindFile("a label", of_node("labels: {tier: web}\n"), effect="tier=web"),
    KindFile("a label of a domain", of_node("labels: {example.com/tier: web}\n"), effect="example.com/tier=web"),
    KindFile("a zone", of_node("labels: {topology.kubernetes.io/zone: a}\n"), effect="topology.kubernetes.io/zone=a"),
    KindFile("a label for the kubelet", of_node("labels: {x.node.kubernetes.io/y: a}\n"), effect="x.node.kubernetes.io/y=a"),
    KindFile("a role as a label", of_node('labels: {node-role.kubernetes.io/worker: ""}\n'),
             labctl="Kubernetes keeps those", why=KUBELET),
    KindFile("a label of k8s.io", of_node("labels: {k8s.io/x: a}\n"), labctl="Kubernetes keeps those", why=KUBELET),
    KindFile("a restricted label", of_node("labels: {node-restriction.kubernetes.io/x: a}\n"),
             labctl="Kubernetes keeps those", why=KUBELET),
    KindFile("a label with a space", of_node("labels: {my tier: web}\n"), labctl="a label's name is", why=KUBELET),
    KindFile("a value with a comma", of_node('labels: {tier: "a,b"}\n'), labctl="a label's value", why=KUBELET),
    KindFile("a long value", of_node(f"labels: {{tier: {'x' * 64}}}\n"), labctl="a label's value", why=KUBELET),
    KindFile("a number as a value", of_node("labels: {tier: 1}\n"), labctl="tier cannot be this", why=WORDS),
    KindFile("labels as a list", of_node("labels: [tier]\n"), "refused", "labels cannot be this"),
    # --- ports
    KindFile("a port", port("containerPort: 30080, hostPort: 8080")),
    KindFile("another address of this machine", port("containerPort: 80, hostPort: 8080, listenAddress: 127.0.0.2")),
    KindFile("udp in small letters", port("containerPort: 53, hostPort: 5353, protocol: udp")),
    KindFile("a protocol that is none", port("containerPort: 80, protocol: http"), "refused", "protocol cannot be this"),
    KindFile("a port too high", port("containerPort: 70000"), "refused", "containerPort cannot be this"),
    KindFile("a host port too high", port("containerPort: 80, hostPort: 70000"), "refused", "hostPort cannot be this"),
    KindFile("a port in quotes", port('containerPort: "80"'), "refused", "containerPort cannot be this"),
    KindFile("a port in words", port("containerPort: http"), "refused", "containerPort cannot be this"),
    KindFile("no container port", port("hostPort: 8080"), labctl="without containerPort", why=DOCKER),
    KindFile("docker's own choice", port("containerPort: 80, hostPort: -1"), labctl="hostPort cannot be this",
             why="it is another port after each restart"),
    KindFile("a name to listen on", port("containerPort: 80, hostPort: 81, listenAddress: localhost"), "refused", "no address"),
    KindFile("an unknown key of a port", port("containerPort: 80, hostport: 81"), "refused", "unknown key in a port"),
    KindFile("one port twice", of_node("extraPortMappings:\n- {containerPort: 80, hostPort: 81}\n- {containerPort: 82, hostPort: 81}\n"),
             "refused", "asked for a second time"),
    KindFile("one port, two protocols", of_node(
        "extraPortMappings:\n- {containerPort: 80, hostPort: 81}\n- {containerPort: 80, hostPort: 81, protocol: UDP}\n")),
    KindFile("one port of two nodes", of_node("extraPortMappings: [{containerPort: 80, hostPort: 81}]\n")
             + "- role: worker\n  extraPortMappings: [{containerPort: 80, hostPort: 81}]\n",
             labctl="asked for a second time", why=DOCKER, nodes=(1, 1)),
    KindFile("the API server's port again", "networking: {apiServerPort: 6443}\n" + port("containerPort: 80, hostPort: 6443"),
             labctl="asked for a second time", why=DOCKER),
    # --- mounts
    KindFile("a mount", mount("hostPath: /, containerPath: /host, readOnly: true, selinuxRelabel: false, propagation: HostToContainer")),
    KindFile("a key in small letters", mount("hostpath: /, containerPath: /host"), "refused", "unknown key in a mount"),
    KindFile("a propagation that is none", mount("hostPath: /, containerPath: /h, propagation: Shared"), "refused", "propagation cannot"),
    KindFile("readOnly in quotes", mount('hostPath: /, containerPath: /h, readOnly: "true"'), "refused", "readOnly cannot be this"),
    KindFile("a path that is absent", mount("hostPath: /no/such/path, containerPath: /h"), labctl="there is no such path", why=DOCKER),
    KindFile("a home that nobody expands", mount('hostPath: "~/x", containerPath: /h'), labctl="there is no such path", why=DOCKER),
    KindFile("a variable that nobody expands", mount('hostPath: "${PWD}/x", containerPath: /h'), labctl="there is no such path", why=DOCKER),
    KindFile("a relative path in a node", mount("hostPath: /, containerPath: h"), labctl="no path in a node", why=DOCKER),
    KindFile("a mount without a path", mount("containerPath: /h"), labctl="without hostPath", why=DOCKER),
    KindFile("a mount over kind's own", mount("hostPath: /, containerPath: /var/"), labctl="mounted already", why=DOCKER),
    KindFile("one path twice", of_node("extraMounts:\n- {hostPath: /, containerPath: /h}\n- {hostPath: /, containerPath: /h/}\n"),
             labctl="mounted a second time", why=DOCKER),
    # --- networking
    KindFile("subnets", "networking: {podSubnet: 10.10.0.0/16, serviceSubnet: 10.11.0.0/16}\n", effect="10.10.0.0/16"),
    KindFile("IPv6", "networking: {ipFamily: ipv6}\n", labctl="ipFamily cannot be this", why=PROOF),
    KindFile("both families", "networking: {ipFamily: dual}\n", labctl="ipFamily cannot be this", why=PROOF),
    KindFile("a family that is none", "networking: {ipFamily: ipv5}\n", "refused", "ipFamily cannot be this"),
    KindFile("a mask for a prefix", "networking: {podSubnet: 10.244.0.0/255.255.0.0}\n", "refused", "no IPv4 network"),
    KindFile("no prefix", "networking: {podSubnet: 10.244.0.0}\n", "refused", "no IPv4 network"),
    KindFile("an IPv6 network", 'networking: {podSubnet: "fd00::/56"}\n', "refused", "no IPv4 network"),
    KindFile("two networks", 'networking: {podSubnet: "10.1.0.0/16,10.2.0.0/16"}\n', "refused", "no IPv4 network"),
    KindFile("an address within a network", "networking: {podSubnet: 10.244.1.1/16}\n", labctl="no IPv4 network",
             why="it does not say which network is meant"),
    KindFile("services in a /8", "networking: {podSubnet: 192.168.0.0/16, serviceSubnet: 10.0.0.0/8}\n",
             labctl="serviceSubnet is too large", why=KUBEADM),
    KindFile("pods in a /26", "networking: {podSubnet: 10.244.0.0/26}\n", labctl="podSubnet is too small", why=KUBEADM),
    KindFile("pods in a /24", "networking: {podSubnet: 10.244.0.0/24}\n", effect="10.244.0.0/24"),
    KindFile("a /24 for two nodes", "networking: {podSubnet: 10.244.0.0/24}\n" + PAIR, nodes=(1, 1),
             labctl="podSubnet is too small", why="the second node finds no addresses left"),
    KindFile("pods in a /4", "networking: {podSubnet: 32.0.0.0/4}\n", labctl="podSubnet is too large", why=KUBEADM),
    KindFile("pods on the loopback", "networking: {podSubnet: 127.1.0.0/16}\n", labctl="not for pods", why=KUBEADM),
    KindFile("overlapping", "networking: {podSubnet: 10.96.0.0/12}\n", labctl="overlap", why=KUBEADM),
    KindFile("nftables", "networking: {kubeProxyMode: nftables}\n", effect="mode: nftables"),
    KindFile("a proxy that is none", "networking: {kubeProxyMode: ebpf}\n", "refused", "kubeProxyMode cannot be this"),
    KindFile("nothing for Services", "networking: {kubeProxyMode: none}\n", labctl="nothing would serve Services", why=PROOF),
    KindFile("the API server's port", "networking: {apiServerPort: 16443}\n"),
    KindFile("a port that is none", "networking: {apiServerPort: 65536}\n", "refused", "apiServerPort cannot be this"),
    KindFile("the API server's address", "networking: {apiServerAddress: 0.0.0.0}\n", labctl="not to be set here", why=OWN),
    KindFile("kind's CNI", "networking: {disableDefaultCNI: true}\n", labctl="not to be set here", why=OWN),
    KindFile("domains to search", "networking: {dnsSearch: [example.com, svc.example]}\n"),
    KindFile("a domain with a space", 'networking: {dnsSearch: ["example com"]}\n', labctl="a domain to search cannot be this",
             why="it would be two"),
    KindFile("domains as a word", "networking: {dnsSearch: example.com}\n", "refused", "dnsSearch cannot be this"),
    # --- gates and APIs
    KindFile("a feature gate", "featureGates: {AllAlpha: false}\n", effect="AllAlpha"),
    KindFile("a gate in quotes", 'featureGates: {AllAlpha: "true"}\n', "refused", "AllAlpha cannot be this"),
    KindFile("a gate that is a number", "featureGates: {AllAlpha: 1}\n", "refused", "AllAlpha cannot be this"),
    KindFile("two gates in one", 'featureGates: {"A=true,B": true}\n', labctl="a name in featureGates", why=KUBELET),
    KindFile("gates as a list", "featureGates: [AllAlpha]\n", "refused", "featureGates cannot be this"),
    KindFile("an API", 'runtimeConfig: {api/alpha: "false"}\n', effect="api/alpha=false"),
    KindFile("an API without quotes", "runtimeConfig: {api/alpha: false}\n", labctl="api/alpha cannot be this", why=WORDS),
    KindFile("an API that is a list", "runtimeConfig: {api/alpha: [x]}\n", "refused", "api/alpha cannot be this"),
    # --- patches for kubeadm
    KindFile("a patch", patch("kind: KubeletConfiguration\nmaxPods: 77\n"), effect="maxPods: 77"),
    KindFile("a patch with its version", patch("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 77\n"),
             effect="maxPods: 77"),
    KindFile("two documents", patch("kind: ClusterConfiguration\nclusterName: x\n---\nkind: KubeletConfiguration\nmaxPods: 77\n"),
             effect="maxPods: 77"),
    KindFile("a document that begins with dashes", patch("---\nkind: KubeletConfiguration\nmaxPods: 77\n"), effect="maxPods: 77"),
    KindFile("an older version", patch("apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\ncertificatesDir: /x77\n"),
             "dropped", "a patch of another version", effect="x77"),
    KindFile("a misspelt kind", patch("kind: KubeletConfig\nmaxPods: 77\n"), "dropped", "another kind than it makes", effect="77"),
    KindFile("no kind", patch("maxPods: 77\n"), "dropped", "does not say its kind", effect="77"),
    KindFile("a word behind the dashes", patch("kind: ClusterConfiguration\n--- {kind: KubeletConfiguration, maxPods: 77}\n"),
             "dropped", "behind a document's dashes", effect="77"),
    KindFile("no proxy to configure", "networking: {kubeProxyMode: none}\n" + patch("kind: KubeProxyConfiguration\nclusterCIDR: x77\n"),
             "dropped", "no use for this kind", effect="x77"),
    KindFile("a patch that is a list", patch("- kind: ClusterConfiguration\n"), "refused", "a patch is a mapping"),
    KindFile("a patch that is no YAML", patch("kind: [\n"), "refused", "not YAML"),
    KindFile("a patch that is a mapping", "kubeadmConfigPatches: [{kind: ClusterConfiguration}]\n", "refused", "a patch cannot be this"),
    KindFile("an empty patch", 'kubeadmConfigPatches: [""]\n', labctl="this patch says nothing", why="nothing comes of it"),
    KindFile("a very long patch", patch(f"kind: KubeletConfiguration\nclusterDomain: {'x' * 70_000}\n"), "refused", "too long"),
    KindFile("how the first node begins", of_node("kubeadmConfigPatches: ['{kind: InitConfiguration, timeouts: {discovery: 77s}}']\n"),
             effect="77s"),
    KindFile("how a worker joins", of_worker("kubeadmConfigPatches: ['{kind: JoinConfiguration, timeouts: {discovery: 77s}}']\n"),
             effect="77s", nodes=(1, 1)),
    KindFile("a worker that begins", of_worker("kubeadmConfigPatches: ['{kind: InitConfiguration, timeouts: {discovery: 77s}}']\n"),
             labctl="a node that joins has no use", why="kubeadm reads it on the first control plane only", nodes=(1, 1)),
    KindFile("a worker's kubelet", of_worker("kubeadmConfigPatches: ['{kind: KubeletConfiguration, maxPods: 77}']\n"),
             labctl="kubeletExtraArgs", why="kubeadm takes it from the cluster when a node joins", nodes=(1, 1)),
    KindFile("a JSON patch", targeted("kind: KubeletConfiguration, patch: '[{op: add, path: /maxPods, value: 77}]'"), effect="maxPods: 77"),
    KindFile("a JSON patch with its version", targeted(
        "group: kubelet.config.k8s.io, version: v1beta1, kind: KubeletConfiguration, patch: '[{op: add, path: /maxPods, value: 77}]'"),
        effect="maxPods: 77"),
    KindFile("a JSON patch of another version", targeted(
        "group: kubelet.config.k8s.io, version: v1, kind: KubeletConfiguration, patch: '[{op: add, path: /maxPods, value: 77}]'"),
        "dropped", "a patch of another version", effect="maxPods: 77"),
    KindFile("a JSON patch of no kind", targeted("patch: '[{op: add, path: /maxPods, value: 77}]'"), "dropped", "without kind", effect="77"),
    KindFile("an operation that is none", targeted("kind: KubeletConfiguration, patch: '[{op: set, path: /maxPods, value: 77}]'"),
             "refused", "says what it does"),
    KindFile("an operation without a value", targeted("kind: KubeletConfiguration, patch: '[{op: add, path: /maxPods}]'"),
             labctl="lacks something", why="kind sets nothing there, and nobody means that"),
    KindFile("a JSON patch that is a mapping", targeted("kind: KubeletConfiguration, patch: '{maxPods: 77}'"), "refused", "a list of operations"),
    KindFile("a path where nothing is", targeted("kind: KubeletConfiguration, patch: '[{op: remove, path: /maxPod}]'"), "refused", "nothing is there"),
    KindFile("a path below nothing", targeted("kind: ClusterConfiguration, patch: '[{op: add, path: /etcd/local, value: {}}]'"), "refused", "nothing is there"),
    KindFile("a path below what a patch adds", targeted(
        "kind: ClusterConfiguration, patch: '[{op: add, path: /etcd, value: {}}, {op: add, path: /etcd/x77, value: {}}]'"), effect="x77"),
    KindFile("a path below what kind makes", targeted(
        "kind: ClusterConfiguration, patch: '[{op: add, path: /apiServer/x77, value: 1}]'"), effect="x77"),
    KindFile("an unknown key of a JSON patch", targeted("kind: KubeletConfiguration, name: x, patch: '[]'"), "refused", "unknown key"),
    # --- patches for containerd
    KindFile("TOML", toml("[plugins.x]\n  n = 77\n"), effect="n = 77"),
    KindFile("TOML with its version", toml("version = 2\n[plugins.x]\n  n = 77\n"), effect="n = 77"),
    KindFile("TOML of another version", toml("version = 3\n[plugins.x]\n  n = 77\n"), "dropped", "a patch of another version", effect="n = 77"),
    KindFile("a version that is text", toml('version = "2"\n'), "refused", "a patch of another version"),
    KindFile("broken TOML", toml("[plugins\n"), "refused", "not TOML"),
    KindFile("JSON for containerd", 'containerdConfigPatchesJSON6902: [\'[{"op": "add", "path": "/x", "value": 77}]\']\n', effect="x = 77"),
    KindFile("a path where containerd has nothing", 'containerdConfigPatchesJSON6902: [\'[{"op": "remove", "path": "/nope"}]\']\n',
             "refused", "nothing is there"),
    KindFile("YAML for containerd", "containerdConfigPatchesJSON6902: ['[{op: add, path: /x, value: 77}]']\n", "refused", "not JSON"),
)  # fmt: skip
