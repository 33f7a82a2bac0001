"""A docker daemon in memory: containers and images with labels, enough to create and delete clusters on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from labctl.cluster import mark
from labctl.cluster.mark import Mark
from labctl.cluster.spec import ClusterSpec
from labctl.errors import CommandFailed
from labctl.process import Completed
from labctl.tools.docker import Container, Docker, Image, Network


class Fleet(Docker):
    """The fake. ``stubborn`` names containers that a removal does not remove."""

    def __init__(self) -> None:
        super().__init__("no-docker-here")
        self.there: dict[str, Container] = {}
        self.marked: dict[str, Image] = {}
        self.stubborn: set[str] = set()
        self.removed: list[str] = []
        self.known_volumes: dict[str, Mapping[str, str]] = {}
        self.looks = 0
        self.late: list[tuple[int, Container]] = []
        """Containers that appear at the n-th look at the list."""

    # --- filling it

    def node(
        self, name: str, cluster: str, role: str, owner: Mark | None, state: str = "running"
    ) -> Container:
        """A node container of a cluster; without an owner it is plain kind's."""
        labels = {mark.KIND_CLUSTER: cluster, mark.KIND_ROLE: role, **(owner.labels() if owner else {})}
        one = Container(f"id-{name}", name, state, "image", labels)
        self.there[name] = one
        return one

    def cluster(
        self, spec: ClusterSpec, *, owner: str = "0wner", state: str = "running", ours: bool = True
    ) -> Mark:
        """A whole cluster with its mark."""
        whose = Mark(spec.name, owner, 0, spec, "node:image")
        for name in spec.node_names():
            role = "control-plane" if "control-plane" in name else "worker"
            self.node(name, spec.name, role, whose if ours else None, state)
        if ours:
            self.put_mark(whose)
        return whose

    def put_mark(self, whose: Mark) -> None:
        """Only the marking image."""
        self.marked[whose.image] = Image(f"sha-{whose.cluster}", (whose.image,), (), whose.labels(), 1)

    # --- docker's verbs

    def containers(self, labels: Mapping[str, str] | Sequence[str] = ()) -> list[Container]:
        self.looks += 1
        for at, one in list(self.late):
            if self.looks >= at:
                self.there[one.name] = one
                self.late.remove((at, one))
        wanted = labels.items() if isinstance(labels, Mapping) else [(name, None) for name in labels]
        return sorted(
            (
                one
                for one in self.there.values()
                if all(name in one.labels and value in {None, one.labels[name]} for name, value in wanted)
            ),
            key=lambda one: one.name,
        )

    def images(self, labels: Mapping[str, str] | Sequence[str] = ()) -> list[Image]:
        return [one for one in self.marked.values() if all(name in one.labels for name in labels)]

    def image(self, reference: str) -> Image | None:
        return self.marked.get(reference)

    def remove(self, *containers: str) -> None:
        for name in containers:
            self.removed.append(name)
            if name not in self.stubborn:
                self.there.pop(name, None)

    def remove_image(self, reference: str, *, force: bool = True) -> None:
        self.marked.pop(reference, None)

    def create_volume(self, name: str, labels: Mapping[str, str]) -> str:
        self.known_volumes.setdefault(name, labels)
        return f"/volumes/{name}"

    def remove_volume(self, name: str) -> None:
        self.known_volumes.pop(name, None)

    def create(self, image: str, *, name: str) -> None:
        self.there[name] = Container(f"id-{name}", name, "created", image, {})

    def commit(self, container: str, reference: str, *, changes: Sequence[str] = ()) -> str:
        labels = dict(change.removeprefix("LABEL ").split("=", 1) for change in changes)
        self.marked[reference] = Image(f"sha-{reference}", (reference,), (), labels, 1)
        return f"sha-{reference}"

    def network(self, name: str) -> Network | None:
        return Network(name, ("172.18.0.0/16",))

    def info(self) -> dict[str, Any]:
        return {"CgroupVersion": "2"}

    def inspect(self, *names: str) -> list[dict[str, Any]]:
        by_id = {one.id: one for one in self.there.values()} | self.there
        return [
            {
                "Id": by_id[name].id,
                "Name": f"/{by_id[name].name}",
                "Config": {"Labels": dict(by_id[name].labels)},
                "State": {"Status": by_id[name].state},
                "NetworkSettings": {
                    "Ports": {},
                    "Networks": {"kind": {"IPAddress": f"172.18.0.{at + 2}", "IPPrefixLen": 16}},
                },
            }
            for at, name in enumerate(names)
        ]

    def exec(self, container: str, argv: Sequence[str], **_: Any) -> Completed:
        raise CommandFailed(["docker", "exec", container, *argv], 1, "", "nothing runs in a fake")
