"""Namespaces: one name, two rooms.

A namespace is a room in which names are known. The same ConfigMap, pod and Service go into two
rooms, and every name stands for two different things; a short DNS name means the one in the same
room. Permissions, quotas and deletion stop at the door too.

One thing does not: the network. Whoever knows the full name or the address gets through.
"""

from contextlib import closing
from itertools import permutations

from kubernetes import client

from labctl.lab import Cluster, Lab, advice, attempt, config_map, expect, pod, ready, service

ROOMS = ("blue", "green")

lab = Lab(term="네임스페이스", namespaces=(*ROOMS, "doomed"))


def create_web(k8s: Cluster, room: str) -> None:
    """A pod that has its room's greeting as a file, and a hostname that tells the room."""
    greeting = client.V1ConfigMapVolumeSource(name="greeting")
    body = pod("web", hostname=f"{room}-{k8s.nonce}", volumes={"/greeting": greeting})
    k8s.core.create_namespaced_pod(namespace=k8s.namespaces[room], body=body)


@lab.step("Put the same names into three rooms")
def furnish(k8s: Cluster) -> None:
    for room, namespace in k8s.namespaces.items():
        greeting = config_map("greeting", text=f"{room} {k8s.nonce}")
        k8s.core.create_namespaced_config_map(namespace=namespace, body=greeting)
        create_web(k8s, room)
        k8s.core.create_namespaced_service(namespace=namespace, body=service("web"))


def allow_reading(k8s: Cluster, room: str) -> None:
    """Let blue's account read in a room."""
    name = client.V1ObjectMeta(name="reader")
    role = client.V1RoleRef(api_group="rbac.authorization.k8s.io", kind="ClusterRole", name="view")
    account = client.RbacV1Subject(kind="ServiceAccount", name="reader", namespace=k8s.namespaces["blue"])
    binding = client.V1RoleBinding(metadata=name, role_ref=role, subjects=[account])
    k8s.rbac.create_namespaced_role_binding(namespace=k8s.namespaces[room], body=binding)


@lab.step("Let one account read in blue, and let blue have the one Service that it has")
def rule(k8s: Cluster) -> None:
    account = client.V1ServiceAccount(metadata=client.V1ObjectMeta(name="reader"))
    k8s.core.create_namespaced_service_account(namespace=k8s.namespaces["blue"], body=account)
    allow_reading(k8s, "blue")
    limit = client.V1ResourceQuotaSpec(hard={"count/services": "1"})
    quota = client.V1ResourceQuota(metadata=client.V1ObjectMeta(name="one-service"), spec=limit)
    k8s.core.create_namespaced_resource_quota(namespace=k8s.namespaces["blue"], body=quota)


@lab.step("Delete the third room", when=[ready("web", namespace=room) for room in (*ROOMS, "doomed")])
def delete_doomed(k8s: Cluster) -> None:
    k8s.remember(green=uids(k8s, "green"), doomed_ip=k8s.pod_ip("web", namespace="doomed"))
    k8s.core.delete_namespace(name=k8s.namespaces["doomed"])


def uids(k8s: Cluster, room: str) -> list[str]:
    """The UIDs of what a room holds under the common names."""
    namespace, pods = k8s.namespaces[room], k8s.uids("web", namespace=room)
    greeting = k8s.core.read_namespaced_config_map(name="greeting", namespace=namespace)
    web = k8s.core.read_namespaced_service(name="web", namespace=namespace)
    return [*pods, *(str(one.metadata.uid) for one in (greeting, web) if one.metadata)]


@lab.check("One name stands for two objects with two contents")
def names_are_scoped(k8s: Cluster) -> None:
    shared = set(uids(k8s, "blue")) & set(uids(k8s, "green"))
    expect(not shared, seen=f"objects that are in both rooms: {shared}", expected="none")
    for room in ROOMS:
        text = k8s.probe("web", namespace=room).output(["cat", "/greeting/text"])
        expect(text == f"{room} {k8s.nonce}", seen=f"the pod in {room} reads {text!r}")


@lab.check("A short DNS name finds the Service in the caller's own room")
def short_name_is_local(k8s: Cluster) -> None:
    for room in ROOMS:
        call = k8s.probe("web", namespace=room).call("web", request="hostname")
        call.answered_with(f"{room}-{k8s.nonce}")


@lab.check("A full name and an address lead out of the room: the network is not divided")
def network_is_open(k8s: Cluster) -> None:
    for here, there in permutations(ROOMS):
        name, address = k8s.dns_name("web", namespace=there), k8s.pod_ip("web", namespace=there)
        for host, port in ((name, 80), (address, 8080)):
            call = k8s.probe("web", namespace=here).call(host, port, request="hostname")
            call.answered_with(f"{there}-{k8s.nonce}")


@lab.check("Blue's account may read in blue and gets 403 in green")
def permission_ends(k8s: Cluster) -> None:
    with closing(k8s.acting_as("reader", namespace="blue")) as reader:
        read = reader.core.read_namespaced_config_map
        said = {room: attempt(read, name="greeting", namespace=k8s.namespaces[room]) for room in ROOMS}
    expect(said["blue"] == "done" and said["green"].startswith("403"), seen=said)


@lab.check("Blue is full while green is not")
def quota_is_local(k8s: Cluster) -> None:
    create, more = k8s.core.create_namespaced_service, {"body": service("second"), "dry_run": "All"}
    said = {room: attempt(create, namespace=k8s.namespaces[room], **more) for room in ROOMS}
    expect(said["green"] == "done" and "exceeded quota" in said["blue"], seen=said)


@lab.check("Deleting a room takes everything in it and spares its neighbour", within=90)
def deletion_is_local(k8s: Cluster) -> None:
    k8s.expect_same("green", uids(k8s, "green"))
    there = k8s.core.list_namespace(field_selector=f"metadata.name={k8s.namespaces['doomed']}").items
    expect(not there, seen="the room is still there", expected="it is gone")
    call = k8s.probe("web", namespace="green").call(k8s.recall("doomed_ip"), 8080, request="hostname")
    call.not_answered_with(f"doomed-{k8s.nonce}")


@lab.sabotage("green's greeting carries blue's text", breaks=names_are_scoped)
def same_text(k8s: Cluster) -> None:
    green, text = k8s.namespaces["green"], {"data": {"text": f"blue {k8s.nonce}"}}
    k8s.core.patch_namespaced_config_map(name="greeting", namespace=green, body=text)
    k8s.core.delete_namespaced_pod(name="web", namespace=green, grace_period_seconds=0)
    create_web(k8s, "green")


@lab.sabotage("blue's web is another name for green's", breaks=(short_name_is_local, network_is_open))
def borrowed_name(k8s: Cluster) -> None:
    # Changed, not made anew: the quota of one Service counts the old one for a moment after it is deleted.
    green = {"type": "ExternalName", "externalName": k8s.dns_name("web", namespace="green"), "selector": None}
    k8s.core.patch_namespaced_service(name="web", namespace=k8s.namespaces["blue"], body={"spec": green})


@lab.sabotage("blue's account may read in green too", breaks=permission_ends)
def too_much(k8s: Cluster) -> None:
    allow_reading(k8s, "green")


@lab.sabotage("blue's quota is raised to five", breaks=quota_is_local)
def raise_quota(k8s: Cluster) -> None:
    more = {"spec": {"hard": {"count/services": "5"}}}
    k8s.core.patch_namespaced_resource_quota(name="one-service", namespace=k8s.namespaces["blue"], body=more)


@lab.sabotage("green's Service is deleted and made again", breaks=deletion_is_local)
def remake_service(k8s: Cluster) -> None:
    green = k8s.namespaces["green"]
    k8s.core.delete_namespaced_service(name="web", namespace=green)
    k8s.core.create_namespaced_service(namespace=green, body=service("web"))


lab.hint(advice.dns, for_=(short_name_is_local, network_is_open))
lab.hint(advice.endpoints("web", namespace="blue"))
lab.hint(advice.endpoints("web", namespace="green"))
