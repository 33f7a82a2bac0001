"""What an absence is, whichever part of the cluster it concerns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from labctl.cluster.absence.site import Look, Site

Before = Mapping[str, Any]
"""How a thing was, as JSON-able data: what `Absence.give` needs to put it back."""


@dataclass(frozen=True)
class Absence:
    """Something that can be taken away. ``nodes`` are those it is taken from; () for all, or for none in particular."""

    thing: str
    nodes: tuple[str, ...] = ()
    namespace: str = ""

    kind: ClassVar[str] = ""
    by_api: ClassVar[bool] = False
    """Whether it is taken and given through the API server, which must answer for it."""

    @property
    def title(self) -> str:
        """What a person calls it."""
        return f"{self.thing} on {', '.join(self.nodes)}" if self.nodes else self.thing

    @property
    def down(self) -> frozenset[str]:
        """The nodes whose containers do not run meanwhile."""
        return frozenset()

    @property
    def unready(self) -> frozenset[str]:
        """The nodes that may be NotReady meanwhile."""
        return self.down

    def silences_api(self, planes: tuple[str, ...]) -> bool:
        """Whether no API server can answer meanwhile, ``planes`` being all control-plane nodes."""
        return bool(planes) and self.down.issuperset(planes)

    def before(self, site: Site) -> Before:
        """How it is now. Raises `InfrastructureError` where it is not there to be taken."""
        raise NotImplementedError

    def take(self, site: Site, before: Before) -> None:
        """Order it away."""
        raise NotImplementedError

    def gone(self, site: Site, before: Before) -> None:
        """Raises `NotYet` until it is really gone."""
        raise NotImplementedError

    def give(self, site: Site, before: Before) -> Look:
        """Order it back, whatever part of `take` was done, as often as it is called; returns the look that
        says whether it works again."""
        raise NotImplementedError

    def order_back(self, site: Site, before: Before) -> None:
        """The order alone, for one who has no time: it asks nobody for anything that may be slow to answer."""
        self.give(site, before)
