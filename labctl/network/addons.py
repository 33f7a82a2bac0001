"""The table of addons, the one place where a CNI plugin or load balancer is named.

A new one is a module and a line here. The command line's help, the schema of cluster files and the
README's list are made from this table or tested against it.
"""

from __future__ import annotations

from labctl.network.addon import LOAD_BALANCER, NETWORK, Addon, Provision
from labctl.network.flannel import FLANNEL
from labctl.network.kubeadm import NONE
from labctl.network.metallb import METALLB

ADDONS = (FLANNEL, METALLB)


def _choices(what: Provision) -> dict[str, Addon]:
    return {one.name: one for one in (*ADDONS, NONE) if what in one.provides or one is NONE}


CNIS = _choices(NETWORK)
LOAD_BALANCERS = _choices(LOAD_BALANCER)


def cni(name: str) -> Addon:
    """The CNI plugin of that name. One that only another labctl knows provides a network; more is not known."""
    return CNIS.get(name) or Addon(name, frozenset({NETWORK}))


def load_balancer(name: str) -> Addon:
    """The load balancer of that name; see `cni`."""
    return LOAD_BALANCERS.get(name) or Addon(name, frozenset({LOAD_BALANCER}))
