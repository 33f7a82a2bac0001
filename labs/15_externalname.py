"""ExternalName: a name inside for a place outside.

This Service has no pods, no address and no port. It is one line in the cluster's DNS: "that
name is another name for this one". The caller looks up the other name and goes there by itself.

You will read that line with a DNS client, change where it leads, turn it into an ordinary
Service, and follow it out of the cluster to a server that runs on this machine.
"""

from labctl.lab import Cluster, Condition, Lab, advice, alias, by_hand, expect, outside_server, pod, ready

lab = Lab(term="ExternalName", needs=["host reaches nodes"], settled=[ready("client")])

PLAIN = {"type": "ClusterIP", "externalName": None, "selector": {"app": "client"}, "ports": [{"port": 8080}]}


def target(k8s: Cluster, which: str) -> str:
    return f"{which}-{k8s.nonce}.example.com"


@lab.step("Start a pod that asks, and give a far name three near ones")
def start(k8s: Cluster) -> None:
    k8s.core.create_namespaced_pod(namespace=k8s.namespace, body=pod("client"))
    for name in ("shop", "moving", "turning"):
        k8s.core.create_namespaced_service(namespace=k8s.namespace, body=alias(name, target(k8s, "first")))


@lab.step("Give this machine, which is outside the cluster, a name in DNS, and that name another one")
def name_this_machine(k8s: Cluster) -> None:
    machine, addresses = by_hand("machine", k8s.this_machine)
    k8s.discovery.create_namespaced_endpoint_slice(namespace=k8s.namespace, body=addresses)
    for body in (machine, alias("world", k8s.dns_name("machine"))):
        k8s.core.create_namespaced_service(namespace=k8s.namespace, body=body)


def leads_to(name: str, which: str) -> Condition:
    def look(k8s: Cluster) -> None:
        answer = k8s.probe("client").dns(k8s.dns_name(name), "CNAME")
        expect(answer.cname == target(k8s, which), seen=answer, expected=f"CNAME {target(k8s, which)}")

    return look


def change(k8s: Cluster, name: str, **spec: object) -> None:
    k8s.core.patch_namespaced_service(name=name, namespace=k8s.namespace, body={"spec": spec})


@lab.step("Move one name, and turn another into an ordinary Service", when=leads_to("moving", "first"))
def move_and_turn(k8s: Cluster) -> None:
    change(k8s, "moving", externalName=target(k8s, "second"))
    change(k8s, "turning", **PLAIN)


@lab.check("DNS answers with another name, of type CNAME")
def answer_is_a_name(k8s: Cluster) -> None:
    leads_to("shop", "first")(k8s)


@lab.check("There is no address and no endpoint behind it")
def nothing_behind(k8s: Cluster) -> None:
    answer = k8s.probe("client").dns(k8s.dns_name("shop"), "A")
    expect(bool(answer.cname) and not answer.addresses, seen=answer, expected="the other name alone")
    k8s.expect_endpoints("shop", [])


@lab.check("A changed target is a changed answer")
def target_moved(k8s: Cluster) -> None:
    leads_to("moving", "second")(k8s)


@lab.check("Turned into a ClusterIP Service, the same name answers with an address")
def type_turned(k8s: Cluster) -> None:
    address, answer = k8s.address_of("turning"), k8s.probe("client").dns(k8s.dns_name("turning"), "A")
    expect(answer.addresses == {address} and not answer.cname, seen=answer, expected=f"A {address}")
    k8s.probe("client").call("turning", 8080).answered_by("client")


@lab.check("A call to the name leaves the cluster and reaches a server on this machine")
def call_leaves(k8s: Cluster) -> None:
    with outside_server(k8s.this_machine, body=f"outside {k8s.nonce}") as server:
        for host in (server.address, "world"):
            k8s.probe("client").call(host, server.port).answered_with(f"outside {k8s.nonce}")


@lab.sabotage("the names lead to yesterday's target", breaks=(answer_is_a_name, target_moved))
def stale_targets(k8s: Cluster) -> None:
    for name in ("shop", "moving"):
        change(k8s, name, externalName="first-00000000.example.com")


@lab.sabotage("the name is an ordinary Service with a selector", breaks=(answer_is_a_name, nothing_behind))
def ordinary_service(k8s: Cluster) -> None:
    change(k8s, "shop", **PLAIN)


@lab.sabotage("the turned name is an alias again", breaks=type_turned)
def turn_back(k8s: Cluster) -> None:
    k8s.core.delete_namespaced_service(name="turning", namespace=k8s.namespace)
    k8s.core.create_namespaced_service(namespace=k8s.namespace, body=alias("turning", target(k8s, "first")))


@lab.sabotage("the way out ends at a pod inside", breaks=call_leaves)
def stay_inside(k8s: Cluster) -> None:
    change(k8s, "world", externalName=k8s.dns_name("turning"))


lab.hint(advice.dns)
lab.hint(advice.pods_reach_this_machine("client"), for_=call_leaves)
