"""Who calls in a lab, and what may be said of a call.

The probes of labctl.probe, each with the word `call`: it makes the connections at once, and the words of
the `Call` that it returns say what must have come of them. A word that is not true raises `CheckFailed`.
"""

from __future__ import annotations

import contextlib
from typing import Any

from labctl.lab.expectation import expect
from labctl.probe.answers import Dialled
from labctl.probe.bystander import Bystander
from labctl.probe.objects import SERVICE_PORT, WHO
from labctl.probe.outside import OutsideProbe
from labctl.probe.patient import EVERY_SECONDS, Hearing, keep_calling
from labctl.probe.pod import PodProbe
from labctl.waiting import Hopeless

Pods = Any
"""A V1Pod, the name of one, or several of either."""

PATIENCE_SECONDS = 0.5
"""For one call of a caller that goes on calling: so much coarser is what it measures."""


class Call:
    """Connections that one caller made to one target; ``seen`` is what came of them."""

    def __init__(self, caller: object, seen: Dialled, nonce: str) -> None:
        self.seen = seen
        self._caller = caller
        self._nonce = nonce

    def answered_by(self, pods: Pods) -> None:
        """Every connection was answered, by exactly these pods of this run: each of them, and nobody else."""
        wanted = self._names(pods)
        expect(bool(wanted), seen="no pod that could answer", expected=f"somebody answers {self._caller}")
        strangers = [one for one in self.seen.responders if self._is_of_another_run(one)]
        if strangers:
            raise Hopeless(f"pods of another run answer {self._caller}: {', '.join(sorted(strangers))}")
        expected = f"{', '.join(sorted(wanted))} and nobody else"
        self._expect(self.seen.open and self.seen.responders == wanted, expected)

    def answered_by_some_of(self, pods: Pods) -> None:
        """Every connection was answered, by one or several of these pods and nobody else."""
        wanted = self._names(pods)
        self._expect(self.seen.open and self.seen.responders <= wanted, f"any of {', '.join(sorted(wanted))}")

    def answered_with(self, text: str) -> None:
        """Every connection was answered with this text."""
        self._expect(self.seen.open and self.seen.responders == {text}, repr(text))

    def not_answered_with(self, text: str) -> None:
        """No connection was answered with this text, whatever else there was."""
        self._expect(text not in self.seen.responders and not self.seen.unnamed, f"anything but {text!r}")

    def refused(self) -> None:
        """Every connection was turned away at once: the address exists, and nobody listens there."""
        self._expect(self.seen.refused, "connection refused")

    def silent(self) -> None:
        """No connection was answered, whether it was turned away or waited in vain."""
        self._expect(self.seen.blocked, "no answer")

    def reaches_none_of(self, pods: Pods) -> None:
        """None of these pods answered; others may have."""
        reached = self.seen.responders & self._names(pods)
        self._expect(not reached and not self.seen.unnamed, "none of these pods answers")

    def _expect(self, holds: bool, expected: str) -> None:
        expect(holds, seen=f"{self._caller} called {self.seen}", expected=expected)

    def _names(self, pods: Pods) -> set[str]:
        several = [pods] if isinstance(pods, str) or hasattr(pods, "metadata") else list(pods)
        return {f"{getattr(getattr(one, 'metadata', None), 'name', one)}/{self._nonce}" for one in several}

    def _is_of_another_run(self, answer: str) -> bool:
        name, slash, nonce = answer.partition("/")
        return bool(name and slash and nonce) and nonce != self._nonce


class PodCaller(PodProbe):
    """A probe pod of the lab."""

    def __init__(self, *of: Any, nonce: str, **more: Any) -> None:
        super().__init__(*of, **more)
        self._nonce = nonce

    def call(self, host: str, port: int = SERVICE_PORT, *, tries: int = 1, request: str = WHO) -> Call:
        """Call an address or a name from this pod, ``tries`` times."""
        return Call(self, self.dial(host, port, tries=tries, request=request), self._nonce)


class ThisMachine(OutsideProbe):
    """The machine that runs labctl, outside all nodes."""

    def __init__(self, *of: Any, nonce: str) -> None:
        super().__init__(*of)
        self._nonce = nonce

    def call(
        self, host: str, port: int = SERVICE_PORT, *, tries: int = 1, request: str = WHO, timeout: float = 3.0
    ) -> Call:
        """Call an address of the nodes' network from this machine, ``tries`` times, ``timeout`` seconds each."""
        return Call(self, self.dial(host, port, tries=tries, request=request, timeout=timeout), self._nonce)

    def keeps_calling(
        self, host: str, port: int = SERVICE_PORT, *, every: float = EVERY_SECONDS
    ) -> contextlib.AbstractContextManager[Hearing]:
        """A block during which this machine calls every ``every`` seconds; it knows its longest silence."""
        return keep_calling(lambda: self.dial(host, port, timeout=PATIENCE_SECONDS), every=every)


class Beside(Bystander):
    """A machine on the nodes' network that is no node and has no way out of that network."""

    def __init__(self, *of: Any, nonce: str) -> None:
        super().__init__(*of)
        self._nonce = nonce

    def call(self, host: str, port: int = SERVICE_PORT, *, request: str = WHO) -> Call:
        """Call an address from there, once; it is asked for on the nodes' network and nowhere else."""
        return Call(self, self.dial(host, port, request=request), self._nonce)

    def call_each(self, *hosts: str, port: int = SERVICE_PORT) -> list[Call]:
        """Call several addresses from there, each once and all at the same moment."""
        return [Call(self, seen, self._nonce) for seen in self.dial_each(hosts, port)]
