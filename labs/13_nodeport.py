"""NodePort: the same door on every node.

A NodePort Service opens one port on every node, and whoever can reach a node can reach the pods,
wherever they run. The only backend of this lab sits on one worker; this machine, which is no
node, will knock at all of them.

The packet may be passed on, and then the pod sees the node as its caller. With
`externalTrafficPolicy: Local` only nodes with a backend answer, and the caller stays visible.
"""

from labctl.lab import Cluster, Lab, advice, deployment, expect, ready, service

lab = Lab(term="NodePort", needs=["workers=2", "host reaches nodes"], settled=[ready("web", 1)])


@lab.step("Start one backend on one worker")
def start(k8s: Cluster) -> None:
    body = deployment("web", 1, node=k8s.workers[0])
    k8s.apps.create_namespaced_deployment(namespace=k8s.namespace, body=body)


@lab.step("Open two doors to it: one on every node, one for local backends only")
def open_doors(k8s: Cluster) -> None:
    for name, policy in (("everywhere", "Cluster"), ("local", "Local")):
        body = service(name, app="web", kind="NodePort", external_traffic_policy=policy)
        k8s.core.create_namespaced_service(namespace=k8s.namespace, body=body)


@lab.step("Note who the backend is, and a free port beside the door", when=ready("web", 1))
def take_notes(k8s: Cluster) -> None:
    door, used = k8s.node_port_of("everywhere"), k8s.node_ports()
    beside = [*range(door + 1, 32768), *range(door - 1, 29999, -1)]
    free = next(port for port in beside if port not in used)
    k8s.remember(backend=k8s.pods("web")[0].metadata.name, neighbour=free)


@lab.check("Every node answers on the port, also one without a backend")
def every_node_answers(k8s: Cluster) -> None:
    for node in k8s.nodes:
        call = k8s.outside.call(k8s.address(node), k8s.node_port_of("everywhere"), tries=10)
        call.answered_by(k8s.recall("backend"))


@lab.check("The port beside it is refused", control=every_node_answers, consistently=3)
def neighbour_refuses(k8s: Cluster) -> None:
    for node in k8s.nodes:
        k8s.outside.call(k8s.address(node), k8s.recall("neighbour")).refused()


@lab.check("The ordinary door hides who called")
def caller_is_hidden(k8s: Cluster) -> None:
    for address in map(k8s.address, k8s.nodes):
        seen = k8s.outside.seen_as(address, k8s.node_port_of("everywhere"))
        own = k8s.outside.address_towards(address)
        expect(seen not in ("", own), seen=f"the pod sees {seen or 'nobody'}", expected=f"a node, not {own}")


def home(k8s: Cluster) -> str:
    """The address of the node on which the backend runs."""
    return k8s.address(k8s.pod(k8s.recall("backend")).spec.node_name)


@lab.check("The local door shows the caller's own address")
def caller_is_kept(k8s: Cluster) -> None:
    seen = k8s.outside.seen_as(home(k8s), k8s.node_port_of("local"))
    own = k8s.outside.address_towards(home(k8s))
    expect(seen == own, seen=f"the pod sees {seen or 'nobody'}", expected=f"this machine, {own}")


def local_door_answers(k8s: Cluster) -> None:
    k8s.outside.call(home(k8s), k8s.node_port_of("local")).answered_by(k8s.recall("backend"))


@lab.check("The local door is closed on nodes without a backend", control=local_door_answers, consistently=3)
def local_door_closed(k8s: Cluster) -> None:
    for address in map(k8s.address, k8s.nodes):
        if address != home(k8s):
            k8s.outside.call(address, k8s.node_port_of("local"), timeout=1).silent()


@lab.sabotage("another pod takes the backend's place", breaks=every_node_answers)
def unlabelled(k8s: Cluster) -> None:
    name, other = k8s.recall("backend"), {"metadata": {"labels": {"app": "wbe"}}}
    k8s.core.patch_namespaced_pod(name=name, namespace=k8s.namespace, body=other)


@lab.sabotage("the port beside it becomes a door too", breaks=neighbour_refuses)
def second_door(k8s: Cluster) -> None:
    body = service("neighbour", app="web", kind="NodePort", node_port=k8s.recall("neighbour"))
    k8s.core.create_namespaced_service(namespace=k8s.namespace, body=body)


@lab.sabotage(
    "the two doors change places",
    breaks=(every_node_answers, caller_is_hidden, caller_is_kept, local_door_closed),
)
def swap_policies(k8s: Cluster) -> None:
    for name, policy in (("everywhere", "Local"), ("local", "Cluster")):
        other = {"spec": {"externalTrafficPolicy": policy}}
        k8s.core.patch_namespaced_service(name=name, namespace=k8s.namespace, body=other)


lab.hint(advice.kube_proxy)
lab.hint(advice.endpoints("everywhere"))
