"""What a node image is to the rest of labctl: a reference, and how it is known.

Nothing here knows how one is made or had: see labctl.images.build and labctl.images.nodeimage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Origin = Literal["built", "pulled"]


@dataclass(frozen=True)
class NodeImage:
    """The image to make nodes from. ``identity`` is its recipe's hash or the registry's digest."""

    reference: str
    identity: str
    origin: Origin
    kubernetes: str
