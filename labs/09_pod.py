"""Pods: the smallest thing that runs, with an address of its own.

A pod is one container, or a few that belong together and share a network. Three pods will
listen on port 8080, two of them on the same node. Two programs of one machine cannot have
the same port; here nothing collides, because each pod brings an address of its own.

You will look at the address from the inside, let containers of one pod meet on localhost, and
let every pod call every other one to see that nobody rewrites the sender on the way.
"""

from ipaddress import ip_address, ip_network
from itertools import permutations

from labctl.lab import Cluster, Lab, expect, probe_container, probe_pod, ready

lab = Lab(term="파드", needs=["workers=2"])

PODS = ("anna", "bert", "carl")
HELPER_PORT = 9090


def create(k8s: Cluster, name: str, node: str, *, helper: bool = False) -> None:
    containers = [probe_container()]
    if helper:
        containers.append(probe_container("helper", port=HELPER_PORT))
    pod = probe_pod(name, node=node, containers=containers)
    k8s.core.create_namespaced_pod(namespace=k8s.namespace, body=pod)


@lab.step("Create anna (two containers) and bert on one node, carl on another")
def create_pods(k8s: Cluster) -> None:
    create(k8s, "anna", k8s.workers[0], helper=True)
    create(k8s, "bert", k8s.workers[0])
    create(k8s, "carl", k8s.workers[1])


@lab.step("Wait until all three answer", when=ready(*PODS))
def all_ready(k8s: Cluster) -> None:
    k8s.remember(uids={name: k8s.uid(name) for name in PODS})


@lab.check("Two pods of one node both answer on port 8080, and so does the third")
def same_port(k8s: Cluster) -> None:
    nodes = {name: k8s.pod(name).spec.node_name for name in PODS}
    expect(
        nodes["anna"] == nodes["bert"] != nodes["carl"],
        seen=nodes,
        expected="anna and bert together, carl apart",
    )
    for caller, called in permutations(PODS, 2):
        answer = k8s.probe(caller).dial(k8s.pod(called).status.pod_ip, 8080)
        expect(
            answer.responders == {f"{called}/{k8s.nonce}"},
            expected=f"{called} answers {caller} on port 8080",
            seen=answer,
        )


@lab.check("The address a pod finds inside is the one Kubernetes reports, from its node's range")
def own_address(k8s: Cluster) -> None:
    for name in PODS:
        pod = k8s.pod(name)
        inside = k8s.probe(name).addresses()
        expect(
            inside == {pod.status.pod_ip},
            expected=f"{name} has {pod.status.pod_ip} and no other address",
            seen=f"its interfaces have {', '.join(sorted(inside)) or 'none'}",
        )
        ranges = k8s.core.read_node(name=pod.spec.node_name).spec.pod_cidrs or []
        expect(
            any(ip_address(pod.status.pod_ip) in ip_network(one) for one in ranges),
            expected=f"an address from {pod.spec.node_name}'s range {', '.join(ranges)}",
            seen=f"{name} has {pod.status.pod_ip}",
        )


@lab.check("No two pods share an address")
def distinct_addresses(k8s: Cluster) -> None:
    addresses = {name: k8s.pod(name).status.pod_ip for name in PODS}
    owners = {name: k8s.probe("anna").dial(address).answer for name, address in addresses.items()}
    expect(len(set(addresses.values())) == len(PODS), seen=addresses, expected="three different addresses")
    expect(
        owners == {name: f"{name}/{k8s.nonce}" for name in PODS},
        expected="behind each address the pod that owns it",
        seen=owners,
    )


@lab.check("Containers of one pod meet on localhost")
def localhost_is_shared(k8s: Cluster) -> None:
    answer = k8s.probe("anna").dial("127.0.0.1", HELPER_PORT, request="envvar?var=CONTAINER")
    expect(answer.responders == {"helper"}, seen=answer, expected="the helper answers on localhost")


def own_localhost_answers(k8s: Cluster) -> None:
    for name in ("bert", "carl"):
        answer = k8s.probe(name).dial("127.0.0.1", 8080)
        expect(answer.responders == {f"{name}/{k8s.nonce}"}, seen=answer, expected=f"{name} answers itself")


@lab.check("Another pod's localhost is another place", control=own_localhost_answers, consistently=3)
def localhost_is_private(k8s: Cluster) -> None:
    for name in ("bert", "carl"):
        answer = k8s.probe(name).dial("127.0.0.1", HELPER_PORT)
        expect(answer.refused, seen=answer, expected=f"nobody listens there inside {name}")


@lab.check("Every pod sees every other one's own address as the sender")
def sender_is_kept(k8s: Cluster) -> None:
    for caller, called in permutations(PODS, 2):
        sender = k8s.probe(caller).seen_as(k8s.pod(called).status.pod_ip)
        own = k8s.pod(caller).status.pod_ip
        expect(
            sender == own, expected=f"{called} sees {caller} as {own}", seen=f"it sees {sender or 'nobody'}"
        )


@lab.sabotage("bert moves to the other node", breaks=same_port)
def move_bert(k8s: Cluster) -> None:
    replace(k8s, "bert", k8s.workers[1])


@lab.sabotage("anna comes back without her helper", breaks=localhost_is_shared)
def lose_helper(k8s: Cluster) -> None:
    replace(k8s, "anna", k8s.workers[0])


@lab.sabotage("bert gets a helper of his own", breaks=localhost_is_private)
def helper_for_bert(k8s: Cluster) -> None:
    replace(k8s, "bert", k8s.workers[0], helper=True)


@lab.sabotage("carl's interface carries a second address", breaks=own_address)
def second_address(k8s: Cluster) -> None:
    inside(k8s, "carl", "ip address add 10.99.99.99/32 dev eth0")


@lab.sabotage("whatever anna calls, bert answers", breaks=distinct_addresses)
def always_bert(k8s: Cluster) -> None:
    bert = k8s.pod("bert").status.pod_ip
    inside(k8s, "anna", f"iptables -t nat -A OUTPUT -p tcp --dport 8080 -j DNAT --to-destination {bert}")


@lab.sabotage("carl rewrites the sender of what comes in", breaks=sender_is_kept)
def rewrite_sender(k8s: Cluster) -> None:
    inside(k8s, "carl", "iptables -t nat -A INPUT -p tcp --dport 8080 -j SNAT --to-source 10.99.99.99")


def replace(k8s: Cluster, name: str, node: str, *, helper: bool = False) -> None:
    k8s.core.delete_namespaced_pod(name=name, namespace=k8s.namespace, grace_period_seconds=0)
    create(k8s, name, node, helper=helper)


def inside(k8s: Cluster, pod: str, command: str) -> None:
    """Run a command of the node in the pod's network; what it changes dies with the pod."""
    found = k8s.pod(pod)
    k8s.node(found.spec.node_name).in_pod_network(found.metadata.uid, command.split())


@lab.hint(for_=own_address)
def addresses_from_elsewhere(k8s: Cluster) -> str | None:
    """A network plugin with address management of its own ignores the nodes' ranges."""
    if not any(k8s.core.read_node(name=node).spec.pod_cidrs for node in k8s.nodes):
        return "no node has a pod range (spec.podCIDRs): the controller manager was told not to allocate any"
    return None


@lab.hint()
def missing_pods(k8s: Cluster) -> str | None:
    there = {str(pod.metadata.name) for pod in k8s.pods()}
    missing = [name for name in PODS if name not in there]
    return f"missing: {', '.join(missing)}; run the lab again: `labctl lab run 9`" if missing else None
