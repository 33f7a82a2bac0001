"""Namespaces: one name, two rooms.

A namespace is a scope for names. The same ConfigMap, pod and Service go into two namespaces,
and every name stands for two different things; a short DNS name means the one in the own room.
Permissions, quotas and deletion stop at the border too.

One thing does not: the network. Whoever knows the full name or the address gets through.
"""

from contextlib import closing

from kubernetes.client import (
    RbacV1Subject,
    V1ConfigMap,
    V1ConfigMapVolumeSource,
    V1ObjectMeta,
    V1Pod,
    V1PolicyRule,
    V1ResourceQuota,
    V1ResourceQuotaSpec,
    V1Role,
    V1RoleBinding,
    V1RoleRef,
    V1Service,
    V1ServiceAccount,
    V1ServicePort,
    V1ServiceSpec,
)
from kubernetes.client.exceptions import ApiException

from labctl.lab import Cluster, Lab, advice, expect, probe_pod, ready

BLUE, GREEN, DOOMED = "blue", "green", "doomed"
ROOMS = (BLUE, GREEN)
lab = Lab(term="네임스페이스", namespaces=(BLUE, GREEN, DOOMED))

READER = "reader"


def web_pod(k8s: Cluster, room: str) -> V1Pod:
    """A pod that shows the greeting of its room as a file, and whose hostname tells the room."""
    pod = probe_pod("web", volumes={"/greeting": V1ConfigMapVolumeSource(name="greeting")})
    pod.spec.hostname = f"{room}-{k8s.nonce}"
    return pod


def web_service() -> V1Service:
    ports = [V1ServicePort(port=80, target_port=8080)]
    return V1Service(
        metadata=V1ObjectMeta(name="web"), spec=V1ServiceSpec(selector={"app": "web"}, ports=ports)
    )


@lab.step("Put the same names into three namespaces")
def furnish(k8s: Cluster) -> None:
    for room in (BLUE, GREEN, DOOMED):
        greeting = V1ConfigMap(metadata=V1ObjectMeta(name="greeting"), data={"text": f"{room} {k8s.nonce}"})
        k8s.core.create_namespaced_config_map(namespace=k8s.namespaces[room], body=greeting)
        k8s.core.create_namespaced_pod(namespace=k8s.namespaces[room], body=web_pod(k8s, room))
        k8s.core.create_namespaced_service(namespace=k8s.namespaces[room], body=web_service())


@lab.step("Allow one account to read ConfigMaps, in blue only")
def allow_reader(k8s: Cluster) -> None:
    account = V1ServiceAccount(metadata=V1ObjectMeta(name=READER))
    k8s.core.create_namespaced_service_account(namespace=k8s.namespaces[BLUE], body=account)
    allow(k8s, BLUE)


def allow(k8s: Cluster, room: str) -> None:
    rule = V1PolicyRule(api_groups=[""], resources=["configmaps"], verbs=["get", "list"])
    role = V1Role(metadata=V1ObjectMeta(name=READER), rules=[rule])
    k8s.rbac.create_namespaced_role(namespace=k8s.namespaces[room], body=role)
    binding = V1RoleBinding(
        metadata=V1ObjectMeta(name=READER),
        role_ref=V1RoleRef(api_group="rbac.authorization.k8s.io", kind="Role", name=READER),
        subjects=[RbacV1Subject(kind="ServiceAccount", name=READER, namespace=k8s.namespaces[BLUE])],
    )
    k8s.rbac.create_namespaced_role_binding(namespace=k8s.namespaces[room], body=binding)


@lab.step("Limit blue to the one Service it has")
def limit_blue(k8s: Cluster) -> None:
    quota = V1ResourceQuota(
        metadata=V1ObjectMeta(name="one-service"), spec=V1ResourceQuotaSpec(hard={"count/services": "1"})
    )
    k8s.core.create_namespaced_resource_quota(namespace=k8s.namespaces[BLUE], body=quota)


@lab.step("Delete the third namespace", when=[ready("web", namespace=room) for room in (*ROOMS, DOOMED)])
def delete_doomed(k8s: Cluster) -> None:
    k8s.remember(green=uids(k8s, GREEN), doomed_address=k8s.pod("web", namespace=DOOMED).status.pod_ip)
    k8s.core.delete_namespace(name=k8s.namespaces[DOOMED])


def uids(k8s: Cluster, room: str) -> dict[str, str]:
    return {
        "ConfigMap": k8s.core.read_namespaced_config_map(
            name="greeting", namespace=k8s.namespaces[room]
        ).metadata.uid,
        "Pod": k8s.uid("web", namespace=room),
        "Service": k8s.core.read_namespaced_service(name="web", namespace=k8s.namespaces[room]).metadata.uid,
    }


def asks(k8s: Cluster, room: str, host: str, port: int = 80) -> str:
    """The room of the pod that answers when the pod of ``room`` calls ``host``."""
    call = k8s.probe("web", namespace=room).dial(host, port, request="hostname")
    expect(call.open, seen=f"from {room}: {call}", expected=f"{host} answers a pod of {room}")
    return call.answer.removesuffix(f"-{k8s.nonce}")


@lab.check("One name, two objects, two contents")
def names_are_scoped(k8s: Cluster) -> None:
    blue, green = uids(k8s, BLUE), uids(k8s, GREEN)
    shared = [kind for kind in blue if blue[kind] == green[kind]]
    expect(not shared, seen=f"one object in both: {shared}", expected="different UIDs")
    for room in ROOMS:
        text = k8s.probe("web", namespace=room).output(["cat", "/greeting/text"])
        expect(
            text == f"{room} {k8s.nonce}",
            seen=f"the pod in {room} reads {text!r}",
            expected=f"{room} {k8s.nonce}",
        )


@lab.check("A short DNS name finds the Service of the own namespace")
def short_name_is_local(k8s: Cluster) -> None:
    for room in ROOMS:
        answer = asks(k8s, room, "web")
        expect(answer == room, seen=f"in {room}, web is answered by {answer}", expected=f"{room} answers")


@lab.check("A full name and an address cross the border: the network is not divided")
def network_is_open(k8s: Cluster) -> None:
    for here, there in ((BLUE, GREEN), (GREEN, BLUE)):
        by_name = asks(k8s, here, f"web.{k8s.namespaces[there]}.svc.cluster.local")
        by_address = asks(k8s, here, k8s.pod("web", namespace=there).status.pod_ip, 8080)
        expect(by_name == by_address == there, seen=f"name: {by_name}, address: {by_address}", expected=there)


def reads_own(k8s: Cluster) -> None:
    status = reads_as_reader(k8s, BLUE)
    expect(status == 200, seen=f"{status} in {BLUE}", expected="blue's account reads in blue (200)")


def reads_as_reader(k8s: Cluster, room: str) -> int:
    """The HTTP status that blue's account gets for reading the greeting of ``room``."""
    with closing(k8s.acting_as(READER, namespace=BLUE)) as reader:
        try:
            reader.core.read_namespaced_config_map(name="greeting", namespace=k8s.namespaces[room])
        except ApiException as refused:
            return int(refused.status)
    return 200


@lab.check("Blue's account may read in blue and gets 403 in green", control=reads_own)
def permission_ends(k8s: Cluster) -> None:
    status = reads_as_reader(k8s, GREEN)
    expect(status == 403, seen=f"{status} in {GREEN}", expected="403 Forbidden")


def green_has_room(k8s: Cluster) -> None:
    said = try_second_service(k8s, GREEN)
    expect(said == "created", seen=said, expected="green may have a second Service")


def try_second_service(k8s: Cluster, room: str) -> str:
    """What the API server would say to one more Service; with dry_run it keeps nothing."""
    service = web_service()
    service.metadata.name = "second"
    try:
        k8s.core.create_namespaced_service(namespace=k8s.namespaces[room], body=service, dry_run="All")
    except ApiException as refused:
        return f"{refused.status}: {refused.body}"
    return "created"


@lab.check("Blue is full while green is not", control=green_has_room)
def quota_is_local(k8s: Cluster) -> None:
    said = try_second_service(k8s, BLUE)
    expect("exceeded quota" in said, seen=said, expected="403: exceeded quota")


@lab.check("Deleting a namespace takes everything in it and spares its neighbour", within=90)
def deletion_is_local(k8s: Cluster) -> None:
    before, now = k8s.recall("green"), uids(k8s, GREEN)
    expect(now == before, seen=now, expected=f"green's objects as they were: {before}")
    answer = asks(k8s, GREEN, "web")
    expect(answer == GREEN, seen=f"answered by {answer}", expected="green's web answers")
    there = {item.metadata.name: item.status.phase for item in k8s.core.list_namespace().items}
    expect(
        k8s.namespaces[DOOMED] not in there,
        seen=f"{DOOMED}: {there.get(k8s.namespaces[DOOMED])}",
        expected="it is gone",
    )
    call = k8s.probe("web", namespace=GREEN).dial(k8s.recall("doomed_address"), 8080, request="hostname")
    expect(not call.answer.startswith(DOOMED), seen=call, expected="its pod does not answer any more")


@lab.sabotage("green's greeting carries blue's text", breaks=names_are_scoped)
def same_text(k8s: Cluster) -> None:
    greeting = {"data": {"text": f"{BLUE} {k8s.nonce}"}}
    k8s.core.patch_namespaced_config_map(name="greeting", namespace=k8s.namespaces[GREEN], body=greeting)
    k8s.core.delete_namespaced_pod(name="web", namespace=k8s.namespaces[GREEN], grace_period_seconds=0)
    k8s.core.create_namespaced_pod(namespace=k8s.namespaces[GREEN], body=web_pod(k8s, GREEN))


@lab.sabotage("blue's web is another name for green's", breaks=(short_name_is_local, network_is_open))
def borrowed_name(k8s: Cluster) -> None:
    k8s.core.delete_namespaced_service(name="web", namespace=k8s.namespaces[BLUE])
    alias = V1ServiceSpec(type="ExternalName", external_name=f"web.{k8s.namespaces[GREEN]}.svc.cluster.local")
    k8s.core.create_namespaced_service(
        namespace=k8s.namespaces[BLUE], body=V1Service(metadata=V1ObjectMeta(name="web"), spec=alias)
    )


@lab.sabotage("blue's account may read in green too", breaks=permission_ends)
def too_much(k8s: Cluster) -> None:
    allow(k8s, GREEN)


@lab.sabotage("blue's quota is raised to five", breaks=quota_is_local)
def raise_quota(k8s: Cluster) -> None:
    k8s.core.patch_namespaced_resource_quota(
        name="one-service", namespace=k8s.namespaces[BLUE], body={"spec": {"hard": {"count/services": "5"}}}
    )


@lab.sabotage("green's Service is deleted and made again", breaks=deletion_is_local)
def remake_service(k8s: Cluster) -> None:
    k8s.core.delete_namespaced_service(name="web", namespace=k8s.namespaces[GREEN])
    k8s.core.create_namespaced_service(namespace=k8s.namespaces[GREEN], body=web_service())


@lab.hint(for_=(short_name_is_local, network_is_open, deletion_is_local))
def dns_is_down(k8s: Cluster) -> str | None:
    """Names need CoreDNS; addresses do not."""
    return advice.dns(k8s)


@lab.hint()
def service_without_pods(k8s: Cluster) -> str | None:
    for room in ROOMS:
        try:
            selector = (
                k8s.core.read_namespaced_service(name="web", namespace=k8s.namespaces[room]).spec.selector
                or {}
            )
        except ApiException:
            return f"namespace {room} has no Service web; run the lab again: `labctl lab run 10`"
        if selector.get("app") and not k8s.pods(str(selector["app"]), namespace=room):
            return f"Service web of {room} selects app={selector['app']}, and no pod carries that label"
    return None
