"""What came of a question to the data plane: who answered, who turned it away, what DNS said.

Kept apart from those who ask, so that a pod, a node and the world outside give the same kind of answer.
It knows agnhost's and dig's formats, and nothing of how they are reached.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from labctl.errors import ProbeDidNotRun


@dataclass(frozen=True)
class Dialled:
    """What came of a number of fresh connections to one target.

    ``answers`` holds the bodies, ``refusals`` the reasons of the connections that got none. ``unnamed``
    counts answers whose text is unknown: agnhost drops all texts when its last connection fails.
    """

    target: str
    answers: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    unnamed: int = 0

    @property
    def open(self) -> bool:
        """Whether every connection was answered."""
        return bool(self.answers) and not self.refusals

    @property
    def blocked(self) -> bool:
        """Whether not one connection was answered."""
        return not self.answers and not self.unnamed

    @property
    def refused(self) -> bool:
        """Whether every connection was turned away at once, as opposed to running into a time-out."""
        return self.blocked and all("refused" in one for one in self.refusals)

    @property
    def responders(self) -> frozenset[str]:
        """The different bodies: with `WHO`, who answered."""
        return frozenset(self.answers)

    @property
    def answer(self) -> str:
        """The one body of a single connection, or an empty text."""
        return self.answers[0] if self.answers else ""

    @property
    def why(self) -> str:
        """The different reasons of the connections that got no answer, without the URL; '' if all got one."""
        # Go puts the URL in front of each reason.
        return "; ".join(dict.fromkeys(re.sub(r'^Get "[^"]*": ', "", one).strip() for one in self.refusals))

    def __add__(self, more: Dialled) -> Dialled:
        """These connections and ``more`` to the same target."""
        return Dialled(
            self.target,
            self.answers + more.answers,
            self.refusals + more.refusals,
            self.unnamed + more.unnamed,
        )

    def __str__(self) -> str:
        if self.blocked:
            return f"{self.target}: nobody answered ({self.why or 'no reason given'})"
        names = sorted(name or "somebody with an empty answer" for name in self.responders)
        said = f"{self.target}: answered by {', '.join(names) or 'somebody'}"
        return f"{said}; {len(self.refusals)} connection(s) failed ({self.why})" if self.refusals else said


@dataclass(frozen=True)
class DnsAnswer:
    """What a DNS server said: its status word, and each record as (owner, type, value), in order."""

    name: str
    status: str
    records: tuple[tuple[str, str, str], ...] = ()

    def values(self, kind: str) -> tuple[str, ...]:
        """The values of the records of one type, names without their last dot."""
        return tuple(value.rstrip(".") for _, one, value in self.records if one == kind)

    @property
    def cname(self) -> str:
        """The name that the asked name itself stands for, or an empty text."""
        own = self.name.rstrip(".").lower()
        return next(
            (
                v.rstrip(".")
                for n, kind, v in self.records
                if kind == "CNAME" and n.rstrip(".").lower() == own
            ),
            "",
        )

    @property
    def addresses(self) -> frozenset[str]:
        """The IPv4 addresses, wherever the chain of names led."""
        return frozenset(self.values("A"))

    def __str__(self) -> str:
        shown = ", ".join(f"{kind} {value}" for _, kind, value in self.records)
        return f"{self.name}: {self.status}" + (f", {shown}" if shown else ", no record")


def parse_dig(name: str, text: str) -> DnsAnswer:
    """The answer in dig's own format; without any header no server answered."""
    header = re.search(r"status: (\w+)", text)
    if not header:
        return DnsAnswer(name, "NO ANSWER")
    records = []
    for line in text.splitlines():
        parts = line.split(None, 4)
        if len(parts) == 5 and not line.startswith(";") and parts[2] == "IN":
            records.append((parts[0], parts[3], parts[4]))
    return DnsAnswer(name, header.group(1), tuple(records))


def parse_dial(target: str, tries: int, body: str) -> Dialled:
    """agnhost's answer to ``/dial`` over ``tries`` connections. Raises `ProbeDidNotRun` if it makes no sense."""
    try:
        said = json.loads(body)
        answers, refusals = tuple(said.get("responses") or ()), tuple(said.get("errors") or ())
    except (ValueError, AttributeError) as strange:
        raise ProbeDidNotRun(
            f"the probe for {target} gave an answer that makes no sense", why=body[:200]
        ) from strange
    if not answers and not refusals:
        # An empty body is an answer too: agnhost lists no text for it.
        return Dialled(target, answers=("",) * tries)
    return Dialled(target, answers, refusals, unnamed=max(0, tries - len(answers) - len(refusals)))
