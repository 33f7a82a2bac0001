"""LoadBalancer: one address for the world outside.

A Service of type LoadBalancer asks somebody for an outside address. In a cloud that is the
provider; here it is MetalLB, which lends addresses of the nodes' own network, and answers for
them from one node. Where nobody is responsible the Service waits for ever.

Inside the cluster such an address always works, because kube-proxy rewrites it before it leaves the
node; so only a caller outside all nodes proves anything. It is this machine, and it keeps calling
while the node that answers for the address is taken away, to see how long the world hears nothing.
"""

from labctl.lab import (
    Cluster,
    Experiment,
    Lab,
    advice,
    deployment,
    expect,
    holds,
    on_every_node,
    ready,
    service,
)

lab = Lab(
    term="LoadBalancer",
    needs=["workers=2", "node access", "load balancer", "host reaches nodes"],
    touches=["a worker"],
    settled=[ready("web")],
)

TRIES = 40


def nobody(k8s: Cluster) -> str:
    """A class of load balancers that no controller serves."""
    return f"labctl.dev/nobody-{k8s.nonce}"


@lab.step("Start a backend on every worker")
def start(k8s: Cluster) -> None:
    body = on_every_node("web", workers_only=True)
    k8s.apps.create_namespaced_daemon_set(namespace=k8s.namespace, body=body)


@lab.step("Ask for three addresses, one of them from a controller that does not exist")
def ask(k8s: Cluster) -> None:
    for body in (
        service("front", app="web", kind="LoadBalancer"),
        service("leaving", app="web", kind="LoadBalancer"),
        service("waiting", app="web", kind="LoadBalancer", load_balancer_class=nobody(k8s)),
    ):
        k8s.core.create_namespaced_service(namespace=k8s.namespace, body=body)


def all_answer(k8s: Cluster, name: str) -> None:
    call = k8s.outside.call(k8s.outside_address_of(name), tries=TRIES)
    call.answered_by(k8s.some_pods("web", made_by="web"))


def leaving_answers(k8s: Cluster) -> None:
    all_answer(k8s, "leaving")


@lab.step("Delete a Service that answers", when=[ready("web"), leaving_answers])
def delete_leaving(k8s: Cluster) -> None:
    k8s.remember(left=k8s.outside_address_of("leaving"))
    k8s.core.delete_namespaced_service(name="leaving", namespace=k8s.namespace)


@lab.check("A caller outside all nodes reaches every backend through the address", within=60)
def outside_is_served(k8s: Cluster) -> None:
    all_answer(k8s, "front")


@lab.check("The address comes from the load balancer's pool and is no node's")
def from_the_pool(k8s: Cluster) -> None:
    address = k8s.outside_address_of("front")
    expect(address not in map(k8s.address, k8s.nodes), seen=address, expected="no node's address")
    expect(k8s.pool is None or address in k8s.pool, seen=address, expected=f"one of {k8s.pool}")


@lab.check("Without a controller a Service waits", control=outside_is_served, consistently=5)
def waits_for_nobody(k8s: Cluster) -> None:
    k8s.expect_no_outside_address("waiting")


@lab.check("A deleted Service's address answers no more", control=outside_is_served, consistently=5)
def deleted_is_silent(k8s: Cluster) -> None:
    k8s.outside.call(k8s.recall("left"), timeout=1).reaches_none_of(k8s.pods("web"))


@lab.experiment("The address survives the loss of the node that announces it")
def node_is_lost(k8s: Cluster) -> Experiment:
    address = k8s.outside_address_of("front")
    lost = k8s.node_behind(address)

    def another_announces(k8s: Cluster) -> None:
        now = k8s.node_behind(address)
        expect(now != lost, seen=f"{now} announces it", expected=f"another node than {lost}")

    def others_answer(k8s: Cluster) -> None:
        left = [one for one in k8s.some_pods("web", made_by="web") if one.spec.node_name != lost]
        k8s.outside.call(address, tries=TRIES, timeout=2).answered_by(left)

    with k8s.outside.keeps_calling(address) as caller:

        def short_silence(k8s: Cluster) -> None:
            lost_some, never_long = caller.in_vain > 10, caller.longest_silence < 30
            expect(lost_some and never_long, seen=caller, expected="calls in vain, but no silence of 30 s")

        with k8s.frozen(lost):
            yield holds("Another node announces the address", another_announces, within=60)
            yield holds("The backends that are left answer every call", others_answer, within=90)
            yield holds(
                "Who went on calling lost calls, but was never without an answer for 30 s",
                short_silence,
                within=5,
            )
    yield "When the node is back, all backends answer again", outside_is_served


def pretend(k8s: Cluster, name: str, address: str) -> None:
    status = {"status": {"loadBalancer": {"ingress": [{"ip": address}]}}}
    k8s.core.patch_namespaced_service_status(name=name, namespace=k8s.namespace, body=status)


@lab.sabotage("a status that nobody stands behind", breaks=(outside_is_served, from_the_pool))
def fake_status(k8s: Cluster) -> None:
    k8s.core.delete_namespaced_service(name="front", namespace=k8s.namespace)
    fake = service("front", app="web", kind="LoadBalancer", load_balancer_class=nobody(k8s))
    k8s.core.create_namespaced_service(namespace=k8s.namespace, body=fake)
    pretend(k8s, "front", k8s.this_machine)


@lab.sabotage("somebody writes an address into the waiting Service's status", breaks=waits_for_nobody)
def written_by_hand(k8s: Cluster) -> None:
    pretend(k8s, "waiting", "192.0.2.2")


@lab.sabotage("another Service takes the deleted one's address", breaks=deleted_is_silent)
def take_over(k8s: Cluster) -> None:
    heir = service("heir", app="web", kind="LoadBalancer", load_balancer_ip=k8s.recall("left"))
    k8s.core.create_namespaced_service(namespace=k8s.namespace, body=heir)


@lab.sabotage(
    "the Service looks for other pods",
    breaks=(outside_is_served, "When the node is back, all backends answer again"),
)
def other_pods(k8s: Cluster) -> None:
    k8s.apps.create_namespaced_deployment(namespace=k8s.namespace, body=deployment("other", 1))
    others = {"spec": {"selector": {"app": "other"}}}
    k8s.core.patch_namespaced_service(name="front", namespace=k8s.namespace, body=others)


lab.hint(advice.kube_proxy)
lab.hint(advice.endpoints("front"))
lab.hint(advice.announced("front"), for_=outside_is_served)
