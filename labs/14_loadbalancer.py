"""LoadBalancer: one address for the world outside.

A Service of type LoadBalancer asks somebody for an outside address. In a cloud that is the
provider; here it is MetalLB, which lends addresses of the nodes' own network, and answers for
them from one node. Where nobody is responsible the Service waits for ever.

Inside the cluster such an address always works, because kube-proxy rewrites it before it leaves the
node; so only a caller outside all nodes proves anything. It is this machine, and it keeps calling
while the node that answers for the address is taken away.
"""

from ipaddress import ip_address

from kubernetes.client import V1ObjectMeta, V1Service, V1ServicePort, V1ServiceSpec

from labctl.lab import (
    Cluster,
    Experiment,
    Lab,
    advice,
    expect,
    holds,
    probe_on_every_node,
    ready_pods,
)

lab = Lab(
    term="LoadBalancer",
    touches=["a worker"],
    needs=["workers=2", "node access", "load balancer", "host reaches nodes"],
)

TRIES = 40


def service(name: str, **more: object) -> V1Service:
    ports = [V1ServicePort(port=80, target_port=8080)]
    spec = V1ServiceSpec(type="LoadBalancer", selector={"app": "web"}, ports=ports, **more)
    return V1Service(metadata=V1ObjectMeta(name=name), spec=spec)


def nobody(k8s: Cluster) -> str:
    """A class of load balancers that no controller serves."""
    return f"labctl.dev/nobody-{k8s.nonce}"


@lab.step("Start a backend on every worker")
def start(k8s: Cluster) -> None:
    backends = probe_on_every_node("web", workers_only=True)
    k8s.apps.create_namespaced_daemon_set(namespace=k8s.namespace, body=backends)


@lab.step("Ask for three addresses, one of them from a controller that does not exist")
def ask(k8s: Cluster) -> None:
    for body in (service("front"), service("leaving"), service("waiting", load_balancer_class=nobody(k8s))):
        k8s.core.create_namespaced_service(namespace=k8s.namespace, body=body)


def address_of(k8s: Cluster, name: str) -> str:
    """The outside address that the Service's status names, or an empty text."""
    status = k8s.core.read_namespaced_service(name=name, namespace=k8s.namespace).status
    return next((str(one.ip) for one in status.load_balancer.ingress or () if one.ip), "")


def backends(k8s: Cluster) -> dict[str, str]:
    """How each backend answers, and the node it runs on."""
    return {f"{pod.metadata.name}/{k8s.nonce}": pod.spec.node_name for pod in k8s.pods("web")}


def both_backends(k8s: Cluster) -> None:
    ready_pods("web", len(k8s.workers))(k8s)


def answers(k8s: Cluster, name: str) -> None:
    address = address_of(k8s, name)
    expect(bool(address), seen=f"Service {name} has no address yet", expected="an address")
    call = k8s.outside.get(address, 80, tries=TRIES)
    expect(
        call.open and call.responders == set(backends(k8s)),
        expected=f"{TRIES} of {TRIES} calls answered, by {', '.join(sorted(backends(k8s)))}",
        seen=call,
    )


def leaving_answers(k8s: Cluster) -> None:
    answers(k8s, "leaving")


@lab.step("Delete a Service that answers", when=[both_backends, leaving_answers], within=60)
def delete_leaving(k8s: Cluster) -> None:
    k8s.remember(left=address_of(k8s, "leaving"))
    k8s.core.delete_namespaced_service(name="leaving", namespace=k8s.namespace)


@lab.check("A caller outside all nodes reaches every backend through the address", within=60)
def outside_is_served(k8s: Cluster) -> None:
    answers(k8s, "front")


@lab.check("The address comes from the load balancer's pool and is no node's")
def from_the_pool(k8s: Cluster) -> None:
    address = address_of(k8s, "front")
    expect(bool(address), seen="no address", expected="an address")
    expect(
        address not in {k8s.address(node) for node in k8s.nodes}, seen=address, expected="no node's address"
    )
    if k8s.running.pool:
        first, last = (ip_address(one) for one in k8s.running.pool.split("-"))
        expect(first <= ip_address(address) <= last, seen=address, expected=f"between {first} and {last}")


@lab.check("Without a controller a Service waits", control=outside_is_served, consistently=5)
def waits_for_nobody(k8s: Cluster) -> None:
    address = address_of(k8s, "waiting")
    expect(
        not address, seen=f"it has {address}", expected=f"no address: nobody serves the class {nobody(k8s)}"
    )


@lab.check("A deleted Service's address answers no more", control=outside_is_served, consistently=5)
def deleted_is_silent(k8s: Cluster) -> None:
    call = k8s.outside.get(k8s.recall("left"), 80, timeout=1)
    ours = [name for name in call.answers if name.endswith(f"/{k8s.nonce}")]
    expect(not ours, seen=call, expected="no answer of these backends")


def announcer(k8s: Cluster) -> str:
    """The node whose network interface this machine finds behind the address."""
    address = address_of(k8s, "front")
    call = k8s.outside.get(address, 80)
    owner = k8s.outside.neighbour(address)
    nodes = {k8s.node(node).mac(): node for node in k8s.nodes}
    expect(
        owner in nodes,
        seen=f"{call}; behind it is {owner or 'nobody'}",
        expected=f"a node announces {address}",
    )
    return nodes[owner]


@lab.experiment("The address survives the loss of the node that announces it")
def node_is_lost(k8s: Cluster) -> Experiment:
    lost = announcer(k8s)

    def another_announces(k8s: Cluster) -> None:
        now = announcer(k8s)
        expect(now != lost, seen=f"{now} announces the address", expected=f"another node than {lost}")

    def others_answer(k8s: Cluster) -> None:
        alive = {name for name, node in backends(k8s).items() if node != lost}
        call = k8s.outside.get(address_of(k8s, "front"), 80, tries=TRIES, timeout=2)
        expect(call.open and call.responders == alive, seen=call, expected=f"only {', '.join(sorted(alive))}")

    def is_back(k8s: Cluster) -> None:
        conditions = k8s.core.read_node(name=lost).status.conditions
        ready = next(one.status for one in conditions if one.type == "Ready")
        expect(ready == "True", seen=f"Ready is {ready}", expected=f"{lost} is Ready")

    with k8s.frozen(lost):
        yield holds("Another node announces the address", another_announces, within=60)
        yield holds("Every call is answered, by the backends that are left", others_answer, within=90)
    yield holds("The lost node is back", is_back, within=90)
    yield holds("All backends answer again", outside_is_served, within=60)


@lab.sabotage("a status that nobody stands behind", breaks=(outside_is_served, from_the_pool))
def fake_status(k8s: Cluster) -> None:
    k8s.core.delete_namespaced_service(name="front", namespace=k8s.namespace)
    fake = service("front", load_balancer_class=nobody(k8s))
    k8s.core.create_namespaced_service(namespace=k8s.namespace, body=fake)
    pretend(k8s, "front", "192.0.2.1")


@lab.sabotage("somebody writes an address into the waiting Service's status", breaks=waits_for_nobody)
def written_by_hand(k8s: Cluster) -> None:
    pretend(k8s, "waiting", "192.0.2.2")


def pretend(k8s: Cluster, name: str, address: str) -> None:
    status = {"status": {"loadBalancer": {"ingress": [{"ip": address}]}}}
    k8s.core.patch_namespaced_service_status(name=name, namespace=k8s.namespace, body=status)


@lab.sabotage("another Service takes the deleted one's address", breaks=deleted_is_silent)
def take_over(k8s: Cluster) -> None:
    heir = service("heir", load_balancer_ip=k8s.recall("left"))
    k8s.core.create_namespaced_service(namespace=k8s.namespace, body=heir)


@lab.sabotage("all backends sit on the node that will be lost", breaks=node_is_lost)
def all_eggs_in_one_basket(k8s: Cluster) -> None:
    pinned = {"spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/hostname": announcer(k8s)}}}}}
    k8s.apps.patch_namespaced_daemon_set(name="web", namespace=k8s.namespace, body=pinned)


@lab.hint()
def why(k8s: Cluster) -> str | None:
    return advice.kube_proxy(k8s) or advice.endpoints(k8s, "front")


@lab.hint(for_=outside_is_served)
def nobody_announces(k8s: Cluster) -> str | None:
    """An address in the status is a promise; the answer to "who has it?" is the fact."""
    address = address_of(k8s, "front")
    if not address:
        return "Service front has no address: does a load balancer's controller run?"
    if not k8s.outside.neighbour(address):
        return f"nobody on the nodes' network says that {address} is his: the status is only a claim"
    return None
