"""An instance: one run of a lab on a cluster, and the names that belong to it alone.

A lab never writes the name of a namespace or of a cluster-wide object: it asks its instance. So the same
lab can run several times at once on one cluster, each run with its own namespaces, labels and nonce. The
plain instance is the one that a learner runs and looks at; the prover makes others. It makes no call.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field

from labctl.lab.labels import INSTANCE, LAB, NONCE, RUN, new_nonce

PLAIN = "plain"
"""The label's value for the instance without a tag."""

ALPHABET = string.ascii_lowercase + string.digits
TAG_LENGTH = 4


@dataclass(frozen=True)
class Instance:
    """``lab`` is number and slug ("12-clusterip"), ``tag`` tells instances apart ("" is the plain one).

    ``rooms`` are the lab's own names for its namespaces, ``run`` names the command that made it.
    """

    number: int
    lab: str
    rooms: tuple[str, ...] = ()
    tag: str = ""
    run: str = ""
    nonce: str = field(default_factory=new_nonce)

    @property
    def prefix(self) -> str:
        """What every name of this instance begins with: ``lab12``, or ``lab12-x7kq``."""
        return f"lab{self.number:02d}" + (f"-{self.tag}" if self.tag else "")

    @property
    def namespaces(self) -> Mapping[str, str]:
        """The namespaces by the lab's own names for them; a lab that names none has one, under ''."""
        return {room: self.own(room) if room else self.prefix for room in self.rooms or ("",)}

    @property
    def labels(self) -> Mapping[str, str]:
        """What everything that this instance makes carries."""
        return {**self.marks, RUN: self.run, NONCE: self.nonce}

    @property
    def marks(self) -> Mapping[str, str]:
        """The labels by which reset finds what any run of this instance has made."""
        return {LAB: self.lab, INSTANCE: self.tag or PLAIN}

    @property
    def selector(self) -> str:
        """`marks` as a label selector."""
        return ",".join(f"{key}={value}" for key, value in self.marks.items())

    @property
    def domain(self) -> str:
        """Where the keys of its labels and taints on nodes live: ``lab12.labctl.dev``."""
        return f"{self.prefix}.labctl.dev"

    def own(self, name: str) -> str:
        """A name for a cluster-wide object: ``lab12-reader``."""
        return f"{self.prefix}-{name}"


def new_tag() -> str:
    """A random tag: four letters and digits, the first a letter, so that it may stand anywhere in a name."""
    rest = "".join(secrets.choice(ALPHABET) for _ in range(TAG_LENGTH - 1))
    return secrets.choice(string.ascii_lowercase) + rest
