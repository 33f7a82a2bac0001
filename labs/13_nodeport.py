"""NodePort: the same door on every node.

A NodePort Service opens one port on every node, and whoever can reach a node can reach the pods,
wherever they run. The only backend of this lab sits on one worker; this machine, which is no
node, will knock at all of them.

The packet may be passed on, and then the pod sees the node as its caller. With
`externalTrafficPolicy: Local` only nodes with a backend answer, and the caller stays visible.
"""

from kubernetes.client import V1ObjectMeta, V1Service, V1ServicePort, V1ServiceSpec

from labctl.lab import Cluster, Lab, advice, expect, probe_deployment, ready_pods

lab = Lab(term="NodePort", needs=["workers=2", "host reaches nodes"])


def door(name: str, policy: str) -> V1Service:
    spec = V1ServiceSpec(
        type="NodePort",
        external_traffic_policy=policy,
        selector={"app": "web"},
        ports=[V1ServicePort(port=80, target_port=8080)],
    )
    return V1Service(metadata=V1ObjectMeta(name=name), spec=spec)


@lab.step("Start one backend on one worker")
def start(k8s: Cluster) -> None:
    backend = probe_deployment("web", 1, node=k8s.workers[0])
    k8s.apps.create_namespaced_deployment(namespace=k8s.namespace, body=backend)


@lab.step("Open two doors to it: one on every node, one for local backends only")
def open_doors(k8s: Cluster) -> None:
    k8s.core.create_namespaced_service(namespace=k8s.namespace, body=door("everywhere", "Cluster"))
    k8s.core.create_namespaced_service(namespace=k8s.namespace, body=door("local", "Local"))


@lab.step("Note who the backend is, and a free port beside the door", when=ready_pods("web", 1))
def take_notes(k8s: Cluster) -> None:
    k8s.remember(backend=k8s.pods("web")[0].metadata.name, neighbour=free_neighbour(k8s))


def free_neighbour(k8s: Cluster) -> int:
    """The next port above the door that no Service of the cluster uses."""
    services = k8s.core.list_service_for_all_namespaces().items
    used = {port.node_port for service in services for port in service.spec.ports or () if port.node_port}
    return next(port for port in range(port_of(k8s, "everywhere") + 1, 32868) if port not in used)


def port_of(k8s: Cluster, name: str) -> int:
    return int(k8s.core.read_namespaced_service(name=name, namespace=k8s.namespace).spec.ports[0].node_port)


def backend(k8s: Cluster) -> str:
    """How the one backend answers: its name and the nonce of this run."""
    return f"{k8s.recall('backend')}/{k8s.nonce}"


def home(k8s: Cluster) -> str:
    """The node on which the backend runs."""
    return str(k8s.pod(k8s.recall("backend")).spec.node_name)


@lab.check("Every node's address answers on the port, also where no backend runs")
def every_node_answers(k8s: Cluster) -> None:
    port = port_of(k8s, "everywhere")
    for node in k8s.nodes:
        call = k8s.outside.get(k8s.address(node), port, tries=10)
        expect(
            call.open and call.responders == {backend(k8s)},
            expected=f"{node} answers with {backend(k8s)}, ten times of ten",
            seen=call,
        )


@lab.check("The port beside it is refused", control=every_node_answers, consistently=3)
def neighbour_refuses(k8s: Cluster) -> None:
    port = k8s.recall("neighbour")
    for node in k8s.nodes:
        call = k8s.outside.get(k8s.address(node), port)
        expect(call.refused, seen=call, expected=f"{node} refuses port {port}")


@lab.check("The ordinary door hides who called")
def caller_is_hidden(k8s: Cluster) -> None:
    for node in k8s.nodes:
        seen = k8s.outside.seen_as(k8s.address(node), port_of(k8s, "everywhere"))
        own = k8s.outside.address_towards(k8s.address(node))
        expect(
            bool(seen) and seen != own,
            seen=f"through {node} the pod sees {seen or 'nobody'}",
            expected=f"a node's address, not {own}",
        )


@lab.check("The local door shows the caller's own address")
def caller_is_kept(k8s: Cluster) -> None:
    address = k8s.address(home(k8s))
    seen = k8s.outside.seen_as(address, port_of(k8s, "local"))
    own = k8s.outside.address_towards(address)
    expect(seen == own, seen=f"the pod sees {seen or 'nobody'}", expected=f"the pod sees this machine, {own}")


def local_door_answers(k8s: Cluster) -> None:
    call = k8s.outside.get(k8s.address(home(k8s)), port_of(k8s, "local"))
    expect(
        call.responders == {backend(k8s)}, seen=call, expected=f"{home(k8s)}, where the backend is, answers"
    )


@lab.check("The local door is closed on nodes without a backend", control=local_door_answers, consistently=3)
def local_door_closed(k8s: Cluster) -> None:
    port = port_of(k8s, "local")
    for node in k8s.nodes:
        if node != home(k8s):
            call = k8s.outside.get(k8s.address(node), port, timeout=1)
            expect(call.blocked, seen=call, expected=f"{node} gives no answer")


@lab.sabotage("another pod takes the backend's place", breaks=every_node_answers)
def unlabelled(k8s: Cluster) -> None:
    k8s.core.patch_namespaced_pod(
        name=k8s.recall("backend"), namespace=k8s.namespace, body={"metadata": {"labels": {"app": "wbe"}}}
    )


@lab.sabotage("the port beside it becomes a door too", breaks=neighbour_refuses)
def second_door(k8s: Cluster) -> None:
    extra = door("neighbour", "Cluster")
    extra.spec.ports[0].node_port = k8s.recall("neighbour")
    k8s.core.create_namespaced_service(namespace=k8s.namespace, body=extra)


@lab.sabotage(
    "both doors change their policy",
    breaks=(every_node_answers, caller_is_hidden, caller_is_kept, local_door_closed),
)
def swap_policies(k8s: Cluster) -> None:
    for name, policy in (("everywhere", "Local"), ("local", "Cluster")):
        k8s.core.patch_namespaced_service(
            name=name, namespace=k8s.namespace, body={"spec": {"externalTrafficPolicy": policy}}
        )


@lab.hint()
def why(k8s: Cluster) -> str | None:
    return advice.kube_proxy(k8s) or advice.endpoints(k8s, "everywhere")
