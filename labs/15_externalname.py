"""ExternalName: a name inside for a place outside.

This Service has no pods, no address and no port. It is one line in the cluster's DNS: "that
name is another name for this one". The caller looks up the other name and goes there by itself.

You will read that line with a DNS client, change where it leads, turn it into an ordinary
Service, and follow it out of the cluster to a server that runs on this machine.
"""

from kubernetes.client import (
    DiscoveryV1EndpointPort,
    V1Endpoint,
    V1EndpointSlice,
    V1ObjectMeta,
    V1Service,
    V1ServicePort,
    V1ServiceSpec,
)

from labctl.lab import Cluster, Lab, advice, expect, outside_server, probe_pod, ready

lab = Lab(term="ExternalName", needs=["host reaches nodes"])


def first_target(k8s: Cluster) -> str:
    return f"first-{k8s.nonce}.example.com"


def second_target(k8s: Cluster) -> str:
    return f"second-{k8s.nonce}.example.com"


def full(k8s: Cluster, name: str) -> str:
    return f"{name}.{k8s.namespace}.svc.cluster.local"


def alias(k8s: Cluster, name: str, target: str) -> None:
    """Create a Service that is nothing but another name for ``target``."""
    spec = V1ServiceSpec(type="ExternalName", external_name=target)
    k8s.core.create_namespaced_service(
        namespace=k8s.namespace, body=V1Service(metadata=V1ObjectMeta(name=name), spec=spec)
    )


@lab.step("Start a pod that asks, and give a far name three near ones")
def start(k8s: Cluster) -> None:
    k8s.core.create_namespaced_pod(namespace=k8s.namespace, body=probe_pod("client"))
    for name in ("shop", "moving", "turning"):
        alias(k8s, name, first_target(k8s))


@lab.step("Give this machine, which is outside the cluster, a name that DNS knows")
def name_this_machine(k8s: Cluster) -> None:
    headless = V1ServiceSpec(cluster_ip="None", ports=[V1ServicePort(port=80)])
    k8s.core.create_namespaced_service(
        namespace=k8s.namespace, body=V1Service(metadata=V1ObjectMeta(name="machine"), spec=headless)
    )
    by_hand = V1EndpointSlice(
        metadata=V1ObjectMeta(name="machine", labels={"kubernetes.io/service-name": "machine"}),
        address_type="IPv4",
        endpoints=[V1Endpoint(addresses=[own_address(k8s)])],
        ports=[DiscoveryV1EndpointPort(port=80)],
    )
    k8s.discovery.create_namespaced_endpoint_slice(namespace=k8s.namespace, body=by_hand)
    alias(k8s, "world", full(k8s, "machine"))


def own_address(k8s: Cluster) -> str:
    """The address of this machine on the nodes' network."""
    return str(k8s.outside.address_towards(k8s.address(k8s.nodes[0])))


def leads_to(k8s: Cluster, name: str, target: str) -> None:
    answer = k8s.probe("client").dns(full(k8s, name), "CNAME")
    expect(answer.cname == target, seen=answer, expected=f"CNAME {target}")


def aliases_known(k8s: Cluster) -> None:
    for name in ("moving", "turning"):
        leads_to(k8s, name, first_target(k8s))


@lab.step(
    "Change where one name leads, and turn another into an ordinary Service",
    when=[ready("client"), aliases_known],
    within=60,
)
def change(k8s: Cluster) -> None:
    k8s.remember(changed=True)
    k8s.core.patch_namespaced_service(
        name="moving", namespace=k8s.namespace, body={"spec": {"externalName": second_target(k8s)}}
    )
    make_ordinary(k8s, "turning")


def make_ordinary(k8s: Cluster, name: str) -> None:
    """Turn an alias into a ClusterIP Service with a pod behind it."""
    ports = [{"port": 80, "targetPort": 8080}]
    spec = {"type": "ClusterIP", "externalName": None, "selector": {"app": "client"}, "ports": ports}
    k8s.core.patch_namespaced_service(name=name, namespace=k8s.namespace, body={"spec": spec})


@lab.check("DNS answers with another name, of type CNAME")
def answer_is_a_name(k8s: Cluster) -> None:
    leads_to(k8s, "shop", first_target(k8s))


@lab.check("There is no address and no endpoint behind it")
def nothing_behind(k8s: Cluster) -> None:
    spec = k8s.core.read_namespaced_service(name="shop", namespace=k8s.namespace).spec
    expect(
        spec.cluster_ip in (None, "", "None"), seen=f"ClusterIP {spec.cluster_ip}", expected="no ClusterIP"
    )
    slices = k8s.discovery.list_namespaced_endpoint_slice(
        namespace=k8s.namespace, label_selector="kubernetes.io/service-name=shop"
    ).items
    expect(not slices, seen=f"{len(slices)} EndpointSlice(s)", expected="no EndpointSlice")
    answer = k8s.probe("client").dns(full(k8s, "shop"), "A")
    expect(answer.cname == first_target(k8s) and not answer.addresses, seen=answer, expected="the name alone")


@lab.check("A changed target is a changed answer")
def target_moved(k8s: Cluster) -> None:
    expect(k8s.recall("changed"), seen="the target was never another one", expected="it led elsewhere before")
    leads_to(k8s, "moving", second_target(k8s))


@lab.check("Turned into a ClusterIP Service, the same name answers with an address")
def type_turned(k8s: Cluster) -> None:
    address = k8s.core.read_namespaced_service(name="turning", namespace=k8s.namespace).spec.cluster_ip
    answer = k8s.probe("client").dns(full(k8s, "turning"), "A")
    expect(
        answer.addresses == {address} and not answer.cname, seen=answer, expected=f"A {address} and no CNAME"
    )
    call = k8s.probe("client").dial("turning", 80)
    expect(call.responders == {f"client/{k8s.nonce}"}, seen=call, expected="the pod behind it answers")


@lab.check("A call to the name leaves the cluster and reaches a server on this machine")
def call_leaves(k8s: Cluster) -> None:
    client = k8s.probe("client")
    with outside_server(own_address(k8s), body=f"outside {k8s.nonce}") as server:
        straight = client.dial(server.address, server.port, request=f"straight-{k8s.nonce}")
        expect(straight.open, seen=straight, expected="this machine lets pods in, by its address")
        call = client.dial("world", server.port, request=f"by-name-{k8s.nonce}")
        arrived = [path for _, _, path in server.calls]
    expect(call.responders == {f"outside {k8s.nonce}"}, seen=call, expected=f"outside {k8s.nonce}")
    expect(
        arrived[-1] == f"/by-name-{k8s.nonce}",
        seen=f"the server was asked for {arrived}",
        expected="the call by name",
    )


@lab.sabotage("the name leads to yesterday's target", breaks=answer_is_a_name)
def stale_target(k8s: Cluster) -> None:
    k8s.core.patch_namespaced_service(
        name="shop", namespace=k8s.namespace, body={"spec": {"externalName": "first-00000000.example.com"}}
    )


@lab.sabotage("the name is an ordinary Service with a selector", breaks=(answer_is_a_name, nothing_behind))
def ordinary_service(k8s: Cluster) -> None:
    make_ordinary(k8s, "shop")


@lab.sabotage("the moved name is moved back", breaks=target_moved)
def move_back(k8s: Cluster) -> None:
    k8s.core.patch_namespaced_service(
        name="moving", namespace=k8s.namespace, body={"spec": {"externalName": first_target(k8s)}}
    )


@lab.sabotage("the turned name is an alias again", breaks=type_turned)
def turn_back(k8s: Cluster) -> None:
    k8s.core.delete_namespaced_service(name="turning", namespace=k8s.namespace)
    alias(k8s, "turning", first_target(k8s))


@lab.sabotage("the way out ends at a pod inside", breaks=call_leaves)
def stay_inside(k8s: Cluster) -> None:
    k8s.core.patch_namespaced_service(
        name="world", namespace=k8s.namespace, body={"spec": {"externalName": full(k8s, "turning")}}
    )


@lab.hint()
def why(k8s: Cluster) -> str | None:
    return advice.dns(k8s)


@lab.hint(for_=call_leaves)
def firewall(k8s: Cluster) -> str | None:
    """The pods' packets arrive with a node's address; a firewall of this machine may not like them."""
    with outside_server(own_address(k8s), body="x") as server:
        if k8s.probe("client").dial(server.address, server.port, request="x").blocked:
            return (
                f"this machine does not accept calls from the nodes to {server.address}: look at its firewall"
            )
    return None
