"""ClusterIP: a lasting address for pods that come and go.

A Service is a name and an address that stay while the pods behind them are replaced. You will
call it from a pod on every node and see who answers: exactly the ready pods, all of them.

The address belongs to no machine. Each node rewrites the packets that its pods send to it, so it
exists inside the cluster only, and a Service without pods refuses instead of keeping you waiting.
"""

from collections.abc import Iterator

from labctl.lab import Cluster, Experiment, Lab, advice, deployment, holds, on_every_node, pod, ready, service

lab = Lab(
    term="ClusterIP", needs=["workers=2"], settled=[ready("web", 3), ready("client", on_each_node=True)]
)

TRIES = 40  # with three backends, 40 calls miss one with a chance below 3 in 10 million


@lab.step("Start three backends, one that will leave, and a client on every node")
def start(k8s: Cluster) -> None:
    for body in (deployment("web", 3, can_be_unready=True), deployment("idle", 1)):
        k8s.apps.create_namespaced_deployment(namespace=k8s.namespace, body=body)
    k8s.apps.create_namespaced_daemon_set(namespace=k8s.namespace, body=on_every_node("client"))


@lab.step("Put Services in front of them; one is a door to the outside, for comparison")
def expose(k8s: Cluster) -> None:
    for body in (service("web"), service("idle"), service("door", app="web", kind="NodePort")):
        k8s.core.create_namespaced_service(namespace=k8s.namespace, body=body)


@lab.step("Replace every backend", when=ready("web", 3))
def replace_backends(k8s: Cluster) -> None:
    k8s.remember(address=k8s.address_of("web"), first_pods=k8s.uids("web"))
    k8s.core.delete_collection_namespaced_pod(namespace=k8s.namespace, label_selector="app=web")


def scale_idle(k8s: Cluster, replicas: int) -> None:
    scale = {"spec": {"replicas": replicas}}
    k8s.apps.patch_namespaced_deployment_scale(name="idle", namespace=k8s.namespace, body=scale)


@lab.step("Leave the idle Service without pods", when=ready("idle", 1))
def leave_idle(k8s: Cluster) -> None:
    scale_idle(k8s, 0)


@lab.check("Every backend is a new pod, and the address is the old one")
def address_stays(k8s: Cluster) -> None:
    k8s.expect_same("address", k8s.address_of("web"))
    k8s.expect_none_of("first_pods", k8s.uids("web"))


@lab.check("From every node, 40 calls reach exactly the three backends")
def all_backends_answer(k8s: Cluster) -> None:
    backends = k8s.some_pods("web", made_by="web", count=3)
    for client in k8s.one_on_each_node("client"):
        client.call(k8s.address_of("web"), tries=TRIES).answered_by(backends)


def web_answers(k8s: Cluster) -> None:
    k8s.one_of("client").call(k8s.address_of("web")).answered_by_some_of(k8s.pods("web"))


@lab.check("A Service without pods refuses at once", control=web_answers, consistently=3)
def idle_refuses(k8s: Cluster) -> None:
    k8s.one_of("client").call(k8s.address_of("idle")).refused()


@lab.experiment("Outside the cluster the address does not exist", needs=["node access"])
def closed_to_outside(k8s: Cluster) -> Experiment:
    nodes = [k8s.address(node) for node in k8s.nodes]
    address, door = k8s.address_of("web"), k8s.node_port_of("door")

    def nobody_answers(k8s: Cluster) -> None:
        for call in k8s.bystander.call_each(address, *nodes):
            call.reaches_none_of(k8s.pods("web"))

    def door_is_open(k8s: Cluster) -> None:
        k8s.bystander.call(nodes[-1], door).answered_by_some_of(k8s.pods("web"))

    yield holds(
        "A machine beside the nodes gets in by the door, but not by the address",
        nobody_answers,
        control=door_is_open,
        consistently=3,
    )


@lab.experiment("A pod that is not ready gets no calls")
def unready_leaves(k8s: Cluster) -> Experiment:
    client, address = k8s.one_of("client"), k8s.address_of("web")
    chosen, *others = k8s.some_pods("web", made_by="web")

    def all_answer(k8s: Cluster) -> None:
        client.call(address, tries=TRIES).answered_by([chosen, *others])

    def others_answer(k8s: Cluster) -> None:
        k8s.expect_endpoints("web", others)
        client.call(address, tries=TRIES).answered_by(others)

    yield "While it is ready, it answers like the others", all_answer
    with k8s.unready(chosen):
        yield holds(
            "Unready, it is neither in the EndpointSlice nor among the answers", others_answer, within=60
        )
    yield "Ready again, it answers again", all_answer


@lab.sabotage("the Service is deleted and made again", breaks=address_stays)
def new_service(k8s: Cluster) -> None:
    k8s.core.delete_namespaced_service(name="web", namespace=k8s.namespace)
    k8s.core.create_namespaced_service(namespace=k8s.namespace, body=service("web"))


@lab.sabotage("a stranger carries the backends' label", breaks=all_backends_answer)
def stranger(k8s: Cluster) -> None:
    k8s.core.create_namespaced_pod(namespace=k8s.namespace, body=pod("stranger", app="web"))


@lab.sabotage("the selector has a typing error", breaks=(all_backends_answer, unready_leaves))
def wrong_selector(k8s: Cluster) -> None:
    wrong = {"spec": {"selector": {"app": "wbe"}}}
    k8s.core.patch_namespaced_service(name="web", namespace=k8s.namespace, body=wrong)


@lab.sabotage("the idle Service gets a pod again", breaks=idle_refuses)
def wake_idle(k8s: Cluster) -> None:
    scale_idle(k8s, 1)


@lab.sabotage("the Service listens on a node's address too", breaks=closed_to_outside)
def external_address(k8s: Cluster) -> None:
    opened = {"spec": {"externalIPs": [k8s.address(k8s.workers[0])]}}
    k8s.core.patch_namespaced_service(name="web", namespace=k8s.namespace, body=opened)


@lab.sabotage("a node says that the address is its own", breaks=closed_to_outside, needs=["node access"])
def adopted_address(k8s: Cluster) -> Iterator[None]:
    node, address = k8s.node(k8s.workers[0]), f"{k8s.address_of('web')}/32"
    node.output(["ip", "address", "add", address, "dev", "eth0"])
    yield
    node.output(["ip", "address", "delete", address, "dev", "eth0"])


@lab.sabotage(
    "the Service lists pods that are not ready",
    breaks="Unready, it is neither in the EndpointSlice nor among the answers",
)
def publish_unready(k8s: Cluster) -> None:
    listed = {"spec": {"publishNotReadyAddresses": True}}
    k8s.core.patch_namespaced_service(name="web", namespace=k8s.namespace, body=listed)


lab.hint(advice.kube_proxy)
lab.hint(advice.endpoints("web"))
