"""ClusterIP: a lasting address for pods that come and go.

A Service is a name and an address that stay while the pods behind them are replaced. You will
call it from a pod on every node and see who answers: exactly the ready pods, all of them.

The address belongs to no machine. kube-proxy on each node rewrites packets that go to it, so it
exists inside the cluster only, and a Service without pods refuses instead of keeping you waiting.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from kubernetes.client import V1ObjectMeta, V1Pod, V1Service, V1ServicePort, V1ServiceSpec

from labctl.lab import (
    UNREADY_FILE,
    Cluster,
    Experiment,
    Hopeless,
    Lab,
    advice,
    expect,
    holds,
    probe_deployment,
    probe_on_every_node,
    probe_pod,
    ready_pods,
)

lab = Lab(term="ClusterIP", needs=["workers=2", "host reaches nodes"])

BACKENDS = 3
TRIES = 40  # with three backends, 40 calls miss one with a chance below 3 in 10 million


def service(name: str, app: str, kind: str = "ClusterIP") -> V1Service:
    spec = V1ServiceSpec(type=kind, selector={"app": app}, ports=[V1ServicePort(port=80, target_port=8080)])
    return V1Service(metadata=V1ObjectMeta(name=name), spec=spec)


def every_client(k8s: Cluster) -> None:
    ready_pods("client", len(k8s.nodes))(k8s)


@lab.step("Start three backends, one that will leave, and a client on every node")
def start(k8s: Cluster) -> None:
    for deployment in (probe_deployment("web", BACKENDS, can_be_unready=True), probe_deployment("idle", 1)):
        k8s.apps.create_namespaced_deployment(namespace=k8s.namespace, body=deployment)
    k8s.apps.create_namespaced_daemon_set(namespace=k8s.namespace, body=probe_on_every_node("client"))


@lab.step("Put Services before them; the third one is a door to the outside, for comparison")
def expose(k8s: Cluster) -> None:
    for body in (service("web", "web"), service("idle", "idle"), service("door", "web", "NodePort")):
        k8s.core.create_namespaced_service(namespace=k8s.namespace, body=body)


@lab.step("Replace every backend", when=[ready_pods("web", BACKENDS), ready_pods("idle", 1), every_client])
def replace_backends(k8s: Cluster) -> None:
    first = {pod.metadata.name: pod.metadata.uid for pod in k8s.pods("web")}
    k8s.remember(first_pods=first, address=address(k8s, "web"))
    for name in first:
        k8s.core.delete_namespaced_pod(name=name, namespace=k8s.namespace)


@lab.step("Leave the idle Service without pods", when=ready_pods("web", BACKENDS))
def scale_to_zero(k8s: Cluster) -> None:
    k8s.apps.patch_namespaced_deployment_scale(
        name="idle", namespace=k8s.namespace, body={"spec": {"replicas": 0}}
    )


def address(k8s: Cluster, name: str) -> str:
    return str(k8s.core.read_namespaced_service(name=name, namespace=k8s.namespace).spec.cluster_ip)


def backends(k8s: Cluster) -> list[V1Pod]:
    """The pods that the Deployment made; whoever else carries their label does not belong here."""
    return [pod for pod in k8s.pods("web") if pod.metadata.owner_references]


def some_client(k8s: Cluster) -> str:
    clients = k8s.pods("client")
    expect(bool(clients), seen="no client pod", expected="a client on every node")
    return str(clients[0].metadata.name)


def who_answers(k8s: Cluster, client: str) -> frozenset[str]:
    call = k8s.probe(client).dial(address(k8s, "web"), 80, tries=TRIES)
    others = [name for name in call.responders if not name.endswith(f"/{k8s.nonce}")]
    if any("/" in name for name in others):
        raise Hopeless(f"pods of another run answer: {', '.join(others)}")
    expect(
        not others,
        seen=f"{call}: the calls left the way to the backends",
        expected="answers of backends only",
    )
    expect(call.open, seen=call, expected=f"{TRIES} answers to {TRIES} calls of {client}")
    return call.responders


@lab.check("Every backend is a new pod, and the address is the old one")
def address_stays(k8s: Cluster) -> None:
    new = {pod.metadata.uid for pod in backends(k8s)}
    old = set(k8s.recall("first_pods").values())
    expect(
        len(new) == BACKENDS and not new & old,
        seen=f"{len(new - old)} new pod(s)",
        expected=f"{BACKENDS} new pods",
    )
    before, now = k8s.recall("address"), address(k8s, "web")
    expect(now == before, seen=f"the address is {now}", expected=f"the address is {before}")


@lab.check("From every node, 40 calls reach exactly the three backends")
def all_backends_answer(k8s: Cluster) -> None:
    expected = {f"{pod.metadata.name}/{k8s.nonce}" for pod in backends(k8s)}
    clients = {pod.spec.node_name: pod.metadata.name for pod in k8s.pods("client")}
    expect(
        set(clients) == set(k8s.nodes), seen=f"clients on {', '.join(clients)}", expected="one on every node"
    )
    for node, client in clients.items():
        answering = who_answers(k8s, client)
        expect(
            answering == expected and len(expected) == BACKENDS,
            expected=f"from {node}: {', '.join(sorted(expected))}",
            seen=f"from {node}: {', '.join(sorted(answering))}",
        )


def web_answers(k8s: Cluster) -> None:
    call = k8s.probe(some_client(k8s)).dial(address(k8s, "web"), 80)
    expect(call.open, seen=call, expected="the Service with backends answers")


@lab.check("A Service without pods refuses at once", control=web_answers, consistently=3)
def idle_refuses(k8s: Cluster) -> None:
    call = k8s.probe(some_client(k8s)).dial(address(k8s, "idle"), 80)
    expect(call.refused, seen=call, expected="connection refused")


def door_is_open(k8s: Cluster) -> None:
    port = k8s.core.read_namespaced_service(name="door", namespace=k8s.namespace).spec.ports[0].node_port
    call = k8s.outside.get(k8s.address(k8s.workers[0]), port)
    expect(
        call.answer.endswith(k8s.nonce) and call.open,
        seen=call,
        expected="the NodePort door answers this machine",
    )


@lab.check("From outside the cluster nobody gets through to it", control=door_is_open, consistently=3)
def closed_to_outside(k8s: Cluster) -> None:
    for place in (address(k8s, "web"), *(k8s.address(node) for node in k8s.nodes)):
        call = k8s.outside.get(place, 80)
        reached = [name for name in call.answers if name.endswith(f"/{k8s.nonce}")]
        expect(not reached, seen=call, expected=f"no backend answers this machine at {place}")


@contextmanager
def unready(k8s: Cluster, pod: str) -> Iterator[None]:
    k8s.probe(pod).output(["touch", UNREADY_FILE])
    try:
        yield
    finally:
        k8s.probe(pod).output(["rm", "-f", UNREADY_FILE])


@lab.experiment("A pod that is not ready gets no calls")
def unready_leaves(k8s: Cluster) -> Experiment:
    client, chosen = some_client(k8s), backends(k8s)[0]
    name = f"{chosen.metadata.name}/{k8s.nonce}"

    def answers(k8s: Cluster) -> None:
        answering = who_answers(k8s, client)
        expect(
            name in answering,
            seen=f"answered by {', '.join(sorted(answering))}",
            expected=f"{name} among them",
        )

    def is_left_out(k8s: Cluster) -> None:
        listed = advice.ready_addresses(k8s, "web")
        expect(
            chosen.status.pod_ip not in listed,
            seen=f"ready endpoints: {sorted(listed)}",
            expected=f"without {chosen.status.pod_ip}",
        )
        answering = who_answers(k8s, client)
        expect(
            name not in answering and len(answering) == BACKENDS - 1,
            seen=f"answered by {', '.join(sorted(answering))}",
            expected=f"the other {BACKENDS - 1} backends only",
        )

    yield holds("While it is ready, it answers", answers)
    with unready(k8s, chosen.metadata.name):
        yield holds("Unready, it is neither in the EndpointSlice nor among the answers", is_left_out)
    yield holds("Ready again, it answers again", answers)


@lab.sabotage("the Service is deleted and made again", breaks=address_stays)
def new_service(k8s: Cluster) -> None:
    k8s.core.delete_namespaced_service(name="web", namespace=k8s.namespace)
    k8s.core.create_namespaced_service(namespace=k8s.namespace, body=service("web", "web"))


@lab.sabotage("a stranger carries the backends' label", breaks=all_backends_answer)
def stranger(k8s: Cluster) -> None:
    k8s.core.create_namespaced_pod(namespace=k8s.namespace, body=probe_pod("stranger", app="web"))


@lab.sabotage("the selector has a typing error", breaks=all_backends_answer)
def wrong_selector(k8s: Cluster) -> None:
    k8s.core.patch_namespaced_service(
        name="web", namespace=k8s.namespace, body={"spec": {"selector": {"app": "wbe"}}}
    )


@lab.sabotage("the idle Service gets a pod again", breaks=idle_refuses)
def wake_idle(k8s: Cluster) -> None:
    k8s.apps.patch_namespaced_deployment_scale(
        name="idle", namespace=k8s.namespace, body={"spec": {"replicas": 1}}
    )


@lab.sabotage("the Service listens on a node's address too", breaks=closed_to_outside)
def external_address(k8s: Cluster) -> None:
    opened = {"spec": {"externalIPs": [k8s.address(k8s.workers[0])]}}
    k8s.core.patch_namespaced_service(name="web", namespace=k8s.namespace, body=opened)


@lab.sabotage("the Service lists pods that are not ready", breaks=unready_leaves)
def publish_unready(k8s: Cluster) -> None:
    k8s.core.patch_namespaced_service(
        name="web", namespace=k8s.namespace, body={"spec": {"publishNotReadyAddresses": True}}
    )


@lab.hint()
def why(k8s: Cluster) -> str | None:
    return advice.kube_proxy(k8s) or advice.endpoints(k8s, "web")
