"""What a killed proof left is removed before the next one, and nothing that only looks like it (D5, I3)."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.cluster import formerproofs, lock
from labctl.cluster.proof.stage import PROOF_LABEL
from labctl.errors import ApiRefused, Conflict
from labctl.progress import Quiet


class Namespaces:
    """As much of a connection as lists and deletes namespaces by label."""

    def __init__(self, *names: str, going: str = "") -> None:
        self.there = {
            name: SimpleNamespace(
                metadata=SimpleNamespace(name=name, deletion_timestamp="now" if name == going else None)
            )
            for name in names
        }
        self.core = self
        self.refuses = False
        self.deleted: list[str] = []

    @contextlib.contextmanager
    def translated(self, what: str) -> Iterator[None]:
        if self.refuses:
            raise ApiRefused(what, status=403, reason="Forbidden")
        yield

    def list_namespace(self, *, label_selector: str) -> Any:
        assert label_selector == PROOF_LABEL
        return SimpleNamespace(items=list(self.there.values()))

    def delete_namespace(self, *, name: str) -> None:
        self.deleted.append(name)


def test_former_proofs_go_and_others_stay() -> None:
    kube: Any = Namespaces(
        "labctl-proof-1a", "labctl-proof-2b", "shop", "my-labctl-proof-3", going="labctl-proof-2b"
    )
    with formerproofs.swept("c", kube, Quiet()):
        assert kube.deleted == ["labctl-proof-1a"]


def test_a_sweep_that_is_refused_does_not_hinder_the_proof() -> None:
    kube: Any = Namespaces("labctl-proof-1a")
    kube.refuses = True
    with formerproofs.swept("c", kube, Quiet()):
        assert kube.deleted == []


def test_the_proof_of_another_is_waited_for_and_not_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    kube: Any = Namespaces("labctl-proof-1a")
    monkeypatch.setattr(formerproofs, "PROOF_SECONDS", 0.1)
    with lock.instance("c", "proof"):
        with pytest.raises(Conflict, match="the proof of the network is another"):
            formerproofs.swept("c", kube, Quiet()).__enter__()
        with formerproofs.swept("d", Namespaces(), Quiet()):  # type: ignore[arg-type]  # a stand-in
            pass
    assert kube.deleted == []
    monkeypatch.setattr(formerproofs, "PROOF_SECONDS", 30.0)
    other = lock.instance("c", "proof")
    threading.Timer(0.1, other.release).start()
    with formerproofs.swept("c", kube, Quiet()):
        assert kube.deleted == ["labctl-proof-1a"]
