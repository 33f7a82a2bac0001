"""Pods: the smallest thing that runs, with an address of its own.

A pod is one container, or a few that belong together and share a network. Three pods will
listen on port 8080, two of them on the same node. Two programs of one machine cannot have
the same port; here nothing collides, because each pod brings an address of its own.

You will look at the address from the inside, let containers of one pod meet on localhost, and
let every pod call every other one to see that nobody rewrites the sender on the way.
"""

from itertools import permutations

from labctl.lab import Cluster, Lab, advice, container, expect, pod, ready

PODS = ("anna", "bert", "carl")

lab = Lab(term="파드", needs=["workers=2"], settled=[ready(name) for name in PODS])


def create(k8s: Cluster, name: str, node: str, *, helper: bool = False) -> None:
    containers = [container(), container("helper", port=9090)] if helper else [container()]
    body = pod(name, node=node, containers=containers)
    k8s.core.create_namespaced_pod(namespace=k8s.namespace, body=body)


@lab.step("Create anna (two containers) and bert on one node, carl on another")
def create_pods(k8s: Cluster) -> None:
    create(k8s, "anna", k8s.workers[0], helper=True)
    create(k8s, "bert", k8s.workers[0])
    create(k8s, "carl", k8s.workers[1])


@lab.check("All three answer on port 8080, each at an address of its own, though two share a node")
def same_port(k8s: Cluster) -> None:
    nodes = {name: k8s.pod(name).spec.node_name for name in PODS}
    expect(nodes["anna"] == nodes["bert"] != nodes["carl"], seen=nodes, expected="anna and bert together")
    for caller, called in permutations(PODS, 2):
        k8s.probe(caller).call(k8s.pod_ip(called), 8080).answered_by(called)


@lab.check("The address that a pod finds inside is the one that Kubernetes reports, and no node's")
def own_address(k8s: Cluster) -> None:
    for name in PODS:
        inside, reported = k8s.probe(name).addresses(), k8s.pod_ip(name)
        expect(
            inside == {reported}, seen=f"{name} finds {inside}", expected=f"{reported} and no other address"
        )
        k8s.expect_a_pods_address(name)


def answers_itself(k8s: Cluster) -> None:
    for name in ("bert", "carl"):
        k8s.probe(name).call("127.0.0.1", 8080).answered_by(name)


@lab.check("Localhost is one in a pod, and another place in the next", control=answers_itself, consistently=3)
def localhost_is_private(k8s: Cluster) -> None:
    k8s.probe("anna").call("127.0.0.1", 9090, request="envvar?var=CONTAINER").answered_with("helper")
    for name in ("bert", "carl"):
        k8s.probe(name).call("127.0.0.1", 9090).refused()


@lab.check("Every pod sees the caller's own address as the sender")
def sender_is_kept(k8s: Cluster) -> None:
    for caller, called in permutations(PODS, 2):
        sender, own = k8s.probe(caller).seen_as(k8s.pod_ip(called)), k8s.pod_ip(caller)
        expect(
            sender == own, seen=f"{called} sees {sender or 'nobody'}", expected=f"{own}, which is {caller}"
        )


def replace(k8s: Cluster, name: str, node: str, *, helper: bool = False) -> None:
    k8s.core.delete_namespaced_pod(name=name, namespace=k8s.namespace, grace_period_seconds=0)
    create(k8s, name, node, helper=helper)


@lab.sabotage("bert moves to the other node", breaks=same_port)
def move_bert(k8s: Cluster) -> None:
    replace(k8s, "bert", k8s.workers[1])


@lab.sabotage("whatever anna calls, bert answers", breaks=same_port, needs=["node access"])
def always_bert(k8s: Cluster) -> None:
    rule = "iptables -t nat -A OUTPUT -p tcp --dport 8080 -j DNAT --to-destination"
    k8s.in_network_of("anna", f"{rule} {k8s.pod_ip('bert')}")


@lab.sabotage("carl's interface carries a second address", breaks=own_address, needs=["node access"])
def second_address(k8s: Cluster) -> None:
    k8s.in_network_of("carl", "ip address add 10.99.99.99/32 dev eth0")


@lab.sabotage("anna comes back without her helper", breaks=localhost_is_private)
def lose_helper(k8s: Cluster) -> None:
    replace(k8s, "anna", k8s.workers[0])


@lab.sabotage("bert gets a helper too", breaks=localhost_is_private)
def helper_for_bert(k8s: Cluster) -> None:
    replace(k8s, "bert", k8s.workers[0], helper=True)


@lab.sabotage("carl rewrites the sender of what comes in", breaks=sender_is_kept, needs=["node access"])
def rewrite_sender(k8s: Cluster) -> None:
    k8s.in_network_of("carl", "iptables -t nat -A INPUT -p tcp --dport 8080 -j SNAT --to-source 10.99.99.99")


lab.hint(advice.pods_exist(*PODS))
